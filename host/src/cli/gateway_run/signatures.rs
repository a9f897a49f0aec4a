//! `--verify-signatures`: which images are signed, and the refusal of what cannot be verified.

use crate::catalog::Entry;

/// Fails closed: what cannot be verified does not run.
///
/// # Errors
/// If there is a server whose image is signed.
pub(super) fn refuse_unverifiable<'a>(servers: impl Iterator<Item = (&'a str, &'a Entry)>) -> anyhow::Result<()> {
    let found = servers.filter_map(|(name, entry)| Some((name, signed_image(entry)?)));
    let found: Vec<String> = found.map(|(name, image)| format!("`{name}` (image `{image}`)")).collect();
    if found.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "`--verify-signatures` cannot be honoured for {}: this version does not verify signatures; leave these servers \
         out, or run them unverified without the flag",
        found.join(", ")
    )
}

/// The first image of an entry that is one of Docker's own, which are signed: those in `mcp/` on Docker Hub.
pub(super) fn signed_image(entry: &Entry) -> Option<&str> {
    let tools = entry.tools.iter().filter_map(|tool| tool.container.as_ref()).map(|container| container.image.as_str());
    entry.image.as_deref().into_iter().chain(tools).find(|image| {
        let hub = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"];
        let path = hub.iter().find_map(|registry| image.trim().strip_prefix(registry)).unwrap_or(image.trim());
        path.starts_with("mcp/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_images_are_those_in_mcp_on_docker_hub() {
        let entry = |image: &str| Entry { image: Some(image.to_owned()), ..Entry::default() };
        for own in ["mcp/time", "mcp/time@sha256:00", "docker.io/mcp/time", "index.docker.io/mcp/x", " mcp/x"] {
            assert!(signed_image(&entry(own)).is_some(), "{own}");
        }
        for other in ["mcp-test/time:1", "ghcr.io/mcp/time", "localhost:5000/mcp/time", "busybox", "me/mcp/x"] {
            assert!(signed_image(&entry(other)).is_none(), "{other}");
        }
        let refusal = refuse_unverifiable([("time", &entry("mcp/time"))].into_iter()).unwrap_err().to_string();
        assert!(refusal.contains("`time` (image `mcp/time`)"), "{refusal}");
        refuse_unverifiable([("x", &entry("ghcr.io/x"))].into_iter()).unwrap();
    }
}
