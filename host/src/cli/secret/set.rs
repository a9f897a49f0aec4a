//! `docker-mcp secret set`.

use std::io::{IsTerminal as _, Read as _};

use anyhow::{Context as _, bail};
use clap::Args;
use provisioning_core::env_file;
use zeroize::Zeroizing;

use super::{Status, place, search_path};
use crate::secrets::own_stores::{self, DEFAULT};
use crate::secrets::{Answer, MAX_SECRET, Place, SecretSource, SecretText};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  printf %s \"$TOKEN\" | docker-mcp secret set github.personal_access_token
  docker-mcp secret set github.personal_access_token < token.txt
  docker-mcp secret set --store encrypted-file github.personal_access_token    (asks for the text)")]
pub(in crate::cli) struct Arguments {
    /// The secret, by the name that the catalog uses. With `=TEXT` the text is in the arguments, where the list of
    /// processes and the history of the shell show it
    #[arg(value_name = "NAME[=TEXT]", num_args = 1.., required = true)]
    secret: Vec<String>,
    /// Where: `docker-desktop`, `keyring`, `encrypted-file` or `helper=NAME`. Default: the first of them that is there
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Has no effect: there is one kind of provider
    #[arg(long, hide = true)]
    provider: Option<String>,
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<Status> {
    match arguments.provider.as_deref() {
        None => {}
        Some("" | "credstore") => eprintln!("warning: `--provider` has no effect; choose where with `--store`"),
        Some(provider) => bail!(
            "provider `{provider}` is not part of this version; set the token itself: `docker-mcp secret set NAME`"
        ),
    }
    // Not left to the parser of arguments, which would show what is too much.
    let [secret] = arguments.secret.as_slice() else { bail!("one secret is set at a time; name one") };
    let place = place();
    let (name, text) = match secret.split_once('=') {
        Some((name, text)) => {
            eprintln!(
                "warning: the text of `{name}` was in the arguments, where the list of processes and the history of \
                 the shell show it; pass it on standard input instead"
            );
            (name.trim(), Zeroizing::new(text.to_owned()))
        }
        None => (secret.trim(), Zeroizing::new(String::new())),
    };
    if !env_file::is_name(name) {
        bail!("{}", env_file::NoName);
    }
    let store = match arguments.store.as_deref() {
        Some(DEFAULT) | None => own_stores::to_write(&place).await?,
        Some(word) => crate::secrets::search_path::source(word, &place).await.context("--store")?,
    };
    let text = if secret.contains('=') { text } else { read(name.to_owned()).await? };
    if text.is_empty() {
        bail!("the text of `{name}` is empty; remove a secret with `docker-mcp secret rm {name}`");
    }
    store.set(name, &SecretText::from(text)).await?;
    eprintln!("`{name}` is set in {}", store.label());
    note_order(name, &*store, &place).await;
    Ok(Status::Success)
}

/// Reads the text from standard input, or asks for it if that is a terminal. One line end at the end goes.
async fn read(name: String) -> anyhow::Result<Zeroizing<String>> {
    let reading = tokio::task::spawn_blocking(move || {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            let question = format!("Text of `{name}`: ");
            return super::hidden::ask(&question);
        }
        // As large as it can get: a buffer that moves leaves copies behind that nobody wipes.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_SECRET).unwrap_or_default() + 64));
        stdin.lock().take(MAX_SECRET + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_SECRET {
            return Err(std::io::Error::other(format!("it is larger than {} MiB", MAX_SECRET >> 20)));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| std::io::Error::other("it is not UTF-8 text"))?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        Ok(Zeroizing::new(text.to_owned()))
    });
    reading.await?.context("cannot read the text from standard input")
}

/// Says so if the gateway would not find what was set, or find another text first.
async fn note_order(name: &str, store: &dyn SecretSource, place: &Place) {
    let Ok(path) = search_path(DEFAULT, place).await else { return };
    for source in path.sources() {
        if source.label() == store.label() {
            return;
        }
        if let Ok(Answer::Found(_)) = source.look_up(name).await {
            let first = source.label();
            eprintln!(
                "warning: {first} has a secret `{name}` too and is asked first; remove that one with \
                 `docker-mcp secret rm --store {first} {name}`"
            );
            return;
        }
    }
    eprintln!("note: {} is only asked if `--secrets` names it", store.label());
}
