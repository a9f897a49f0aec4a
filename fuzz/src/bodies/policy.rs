//! Policy files and grants: total on every input, and what was read asks as little as it did before.

use std::path::Path;

use provisioning_core::policy::{Kind, Policies, Who};

use crate::policy::{file, grants::Grants};

/// A policy file, and after a null character grants as they are written after `--grant`.
pub fn policy(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (text, granted) = text.split_once('\0').unwrap_or((&text, "log,secret-resolver,wasi:io"));
    let grants: Grants = match granted.parse::<Grants>() {
        Ok(grants) => {
            let again = grants.to_string().parse::<Grants>();
            assert_eq!(again.as_ref(), Ok(&grants), "grants are not read as they are written");
            grants
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let policy = match file::parse(text, Path::new("policy.yaml")) {
        Ok(policy) => policy,
        Err(error) => {
            // A carriage return ends a line of YAML, too.
            let lines = text.chars().filter(|character| matches!(character, '\n' | '\r')).count() as u32 + 1;
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(problem.line <= lines, "a problem on line {} of {lines}", problem.line);
                assert!(!problem.message.contains(char::is_control), "{problem:?}");
            }
            return;
        }
    };
    let policies = Policies { files: vec![policy] };
    let twice = Policies { files: vec![policies.files[0].clone(), policies.files[0].clone()] };
    for (server, kind) in [("s", Kind::Container), ("other", Kind::Remote)] {
        let who = Who { digest: "00", builtin: Some("docker"), server: Some(server), kind: Some(kind) };
        let left = grants.clone().within(&policies, who);
        assert!(left.interfaces.is_subset(&grants.interfaces) && left.wasi.is_subset(&grants.wasi), "a policy grants");
        let ask = |policies: &Policies| {
            let rules = policies.holding(who);
            let decisions = [
                policies.server(server),
                policies.component(who),
                rules.image("docker.io/mcp/time:1"),
                rules.image("./x.wasm"),
                rules.secret("s.token"),
                rules.config("s.a.b"),
                rules.variable("TOKEN"),
                rules.label("team.a"),
                rules.host("api.example", Some(443)),
                rules.every_host(),
                rules.unknown_mount("m"),
            ];
            decisions.map(|decision| {
                let shown = decision.to_string();
                assert!(!shown.contains(char::is_control), "{shown:?}");
                decision.is_allowed()
            })
        };
        assert_eq!(ask(&policies), ask(&twice), "the same file twice decides otherwise");
        // Asking a pure function again.
        assert_eq!(ask(&policies), ask(&policies));
    }
}
