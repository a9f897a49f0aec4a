//! What credentials of well-known kinds look like.
//!
//! One pass over a text looks for the fixed words that each kind has; only where one is there is its expression tried.
//! Expressions are matched in linear time. They are as strict as the kinds allow: a refused call is a nuisance, so a
//! kind without a mark of its own (any long hexadecimal number) is not here.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;
use regex::{Regex, RegexBuilder};

/// How large an expression may become when it is compiled.
const SIZE: usize = 1 << 20;

/// A kind of credential: what it is called, a word that is in all of them, and what they look like.
type Kind = (&'static str, &'static str, &'static str);

const AWS_SECRET: &str = r#"(?i)aws_secret_(?:access_)?key["']?\s{0,8}(?:=>|=|:)\s{0,8}["']?[a-z0-9/+=]{40}"#;

const KINDS: &[Kind] = &[
    ("an AWS access key", "AKIA", r"\bAKIA[0-9A-Z]{16}\b"),
    ("an AWS access key", "ASIA", r"\bASIA[0-9A-Z]{16}\b"),
    ("an AWS secret access key", "aws_secret", AWS_SECRET),
    ("an AWS secret access key", "AWS_SECRET", AWS_SECRET),
    ("a GitHub token", "ghp_", r"\bghp_[0-9A-Za-z]{36}"),
    ("a GitHub token", "gho_", r"\bgho_[0-9A-Za-z]{36}"),
    ("a GitHub token", "ghu_", r"\bghu_[0-9A-Za-z]{36}"),
    ("a GitHub token", "ghs_", r"\bghs_[0-9A-Za-z]{36}"),
    ("a GitHub token", "ghr_", r"\bghr_[0-9A-Za-z]{36}"),
    ("a GitHub token", "github_pat_", r"\bgithub_pat_[0-9A-Za-z_]{82}"),
    ("a GitLab token", "glpat-", r"\bglpat-[0-9A-Za-z_-]{20}"),
    ("a Docker access token", "dckr_pat_", r"\bdckr_pat_[0-9A-Za-z_-]{27}"),
    ("a Docker access token", "dckr_oat_", r"\bdckr_oat_[0-9A-Za-z_-]{27}"),
    ("a private key", "PRIVATE KEY", r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    ("an age key", "AGE-SECRET-KEY-1", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("an OpenAI key", "T3BlbkFJ", r"\bsk-[0-9A-Za-z_-]{20,200}T3BlbkFJ[0-9A-Za-z_-]{20}"),
    ("an Anthropic key", "sk-ant-", r"\bsk-ant-[a-z]{3,8}[0-9]{2}-[0-9A-Za-z_-]{80}"),
    ("a Hugging Face token", "hf_", r"\bhf_[0-9A-Za-z]{34,40}\b"),
    ("a Google API key", "AIza", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a Google OAuth token", "ya29.", r"\bya29\.[0-9A-Za-z_-]{60}"),
    ("a Google OAuth client secret", "GOCSPX-", r"\bGOCSPX-[0-9A-Za-z_-]{28}"),
    ("a key of a Google service account", "\"service_account\"", r#""type"\s{0,8}:\s{0,8}"service_account""#),
    ("a Slack token", "xoxb-", r"\bxoxb-[0-9]{8,}-[0-9A-Za-z-]{10}"),
    ("a Slack token", "xoxp-", r"\bxoxp-[0-9]{8,}-[0-9A-Za-z-]{10}"),
    ("a Slack token", "xapp-", r"\bxapp-[0-9]-[0-9A-Z]{8,}-[0-9]+-[0-9a-f]{32}"),
    ("a Slack webhook", "hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows)/[0-9A-Za-z+/]{40}"),
    ("a Stripe key", "sk_live_", r"\bsk_live_[0-9A-Za-z]{16}"),
    ("a Stripe key", "rk_live_", r"\brk_live_[0-9A-Za-z]{16}"),
    ("a Stripe webhook secret", "whsec_", r"\bwhsec_[0-9A-Za-z+/]{32}"),
    ("an npm token", "npm_", r"\bnpm_[0-9A-Za-z]{36}\b"),
    ("a PyPI token", "pypi-AgE", r"\bpypi-AgE[0-9A-Za-z_-]{50}"),
    ("a RubyGems key", "rubygems_", r"\brubygems_[0-9a-f]{48}"),
    ("a DigitalOcean token", "dop_v1_", r"\bdop_v1_[0-9a-f]{64}"),
    ("a DigitalOcean token", "doo_v1_", r"\bdoo_v1_[0-9a-f]{64}"),
    ("a SendGrid key", "SG.", r"\bSG\.[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}"),
    ("a Mailgun key", "key-", r"\bkey-[0-9a-f]{32}\b"),
    ("a Twilio key", "SK", r"\bSK[0-9a-f]{32}\b"),
    ("a Shopify token", "shpat_", r"\bshpat_[0-9a-fA-F]{32}"),
    ("a Shopify token", "shpss_", r"\bshpss_[0-9a-fA-F]{32}"),
    ("a Square token", "sq0atp-", r"\bsq0atp-[0-9A-Za-z_-]{22}"),
    ("a Square secret", "sq0csp-", r"\bsq0csp-[0-9A-Za-z_-]{43}"),
    ("a Notion token", "ntn_", r"\bntn_[0-9]{11}[0-9A-Za-z]{35}"),
    ("a Linear key", "lin_api_", r"\blin_api_[0-9A-Za-z]{40}"),
    ("an Atlassian token", "ATATT3", r"\bATATT3[0-9A-Za-z_=-]{100}"),
    ("a Grafana token", "glsa_", r"\bglsa_[0-9A-Za-z]{32}_[0-9a-f]{8}"),
    ("a Grafana token", "glc_", r"\bglc_[0-9A-Za-z+/]{32}"),
    ("a Databricks token", "dapi", r"\bdapi[0-9a-f]{32}\b"),
    ("a New Relic key", "NRAK-", r"\bNRAK-[0-9A-Z]{27}"),
    ("a PostHog key", "phx_", r"\bphx_[0-9A-Za-z]{43}"),
    ("a Vault token", "hvs.", r"\bhvs\.[0-9A-Za-z_-]{90}"),
    ("a Terraform Cloud token", ".atlasv1.", r"\b[0-9A-Za-z]{14}\.atlasv1\.[0-9A-Za-z_=-]{60}"),
    ("a Pulumi token", "pul-", r"\bpul-[0-9a-f]{40}\b"),
    ("a Doppler token", "dp.pt.", r"\bdp\.pt\.[0-9A-Za-z]{43}"),
    ("a Supabase key", "sbp_", r"\bsbp_[0-9a-f]{40}"),
    ("a Telegram bot token", ":AA", r"\b[0-9]{8,10}:AA[0-9A-Za-z_-]{33}\b"),
    ("a Postman key", "PMAK-", r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    ("a Tailscale key", "tskey-", r"\btskey-[a-z]{2,10}-[0-9A-Za-z]{8,}-[0-9A-Za-z]{16}"),
    ("an Airtable token", "pat", r"\bpat[0-9A-Za-z]{14}\.[0-9a-f]{64}\b"),
];

/// Finds credentials.
#[derive(Debug)]
pub(super) struct Patterns {
    words: Option<AhoCorasick>,
    /// By kind; compiled when its word is met for the first time. None if it cannot be, which a test excludes.
    expressions: Vec<OnceLock<Option<Regex>>>,
}

impl Patterns {
    pub(super) fn new() -> Self {
        let words = AhoCorasick::builder().ascii_case_insensitive(false).build(KINDS.iter().map(|(_, word, _)| word));
        Self { words: words.ok(), expressions: KINDS.iter().map(|_| OnceLock::new()).collect() }
    }

    /// The kind of the first credential in a text.
    pub(super) fn find(&self, text: &str) -> Option<&'static str> {
        let words = self.words.as_ref()?;
        let mut tried = [false; KINDS.len()];
        // Words may overlap: each counts.
        for word in words.find_overlapping_iter(text) {
            let index = word.pattern().as_usize();
            let is_tried = tried.get_mut(index).is_none_or(|tried| std::mem::replace(tried, true));
            if !is_tried && self.expression(index).is_some_and(|expression| expression.is_match(text)) {
                return KINDS.get(index).map(|(kind, _, _)| *kind);
            }
        }
        None
    }

    fn expression(&self, index: usize) -> Option<&Regex> {
        let compile = || {
            let (_, _, expression) = KINDS.get(index)?;
            RegexBuilder::new(expression).size_limit(SIZE).dfa_size_limit(SIZE).build().ok()
        };
        self.expressions.get(index)?.get_or_init(compile).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_looked_for() {
        let patterns = Patterns::new();
        assert!(patterns.words.is_some());
        for (index, (kind, _, expression)) in KINDS.iter().enumerate() {
            assert!(patterns.expression(index).is_some(), "{kind}: {expression}");
        }
    }

    #[test]
    fn credentials_are_told_from_what_resembles_them() {
        let patterns = Patterns::new();
        let of = |prefix: &str, letter: &str, count: usize| format!("{prefix}{}", letter.repeat(count));
        // Put together here, so that those who search sources for secrets find none.
        let credentials = [
            (of("AKIA", "A", 16), "an AWS access key"),
            (of("ghp_", "T", 36), "a GitHub token"),
            (of("github_pat_", "T", 82), "a GitHub token"),
            (of("glpat-", "x", 20), "a GitLab token"),
            (of("dckr_pat_", "T", 27), "a Docker access token"),
            (of("-----BEGIN RSA PRIVATE", " KEY-----", 1), "a private key"),
            (of("-----BEGIN PRIVATE", " KEY-----", 1), "a private key"),
            (of("-----BEGIN PGP PRIVATE", " KEY BLOCK-----", 1), "a private key"),
            (of("AIza", "B", 35), "a Google API key"),
            (of("xoxb-1234567890-", "a", 12), "a Slack token"),
            (of("sk_live_", "4", 24), "a Stripe key"),
            (of("SK", "a", 32), "a Twilio key"),
            (of("aws_secret_access_key = \"", "k", 40), "an AWS secret access key"),
            (of("12345678:AA", "k", 33), "a Telegram bot token"),
        ];
        for (text, kind) in &credentials {
            for text in [text.clone(), format!("before {text} after"), format!("{{\"key\":\"{text}\"}}")] {
                assert_eq!(patterns.find(&text), Some(*kind), "{text}");
            }
        }
        for text in [
            "",
            "1234567890",
            "ghp_short",
            "a SKU and a SKELETON, path/to/pat.txt, hf_hub, key-value",
            "-----BEGIN PUBLIC KEY-----",
            "AKIA is how AWS keys begin",
            "0d8f1a0c9f8e7d6c5b4a39281706f5e4d3c2b1a0",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        ] {
            assert_eq!(patterns.find(text), None, "{text}");
        }
    }
}
