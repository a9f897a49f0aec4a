//! `docker-mcp completion`: a script for a shell.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Status, output};

#[derive(Args, Debug)]
#[command(after_help = "\
bash:  source <(docker-mcp completion bash)
zsh:   docker-mcp completion zsh > \"${fpath[1]}/_docker-mcp\"
fish:  docker-mcp completion fish > ~/.config/fish/completions/docker-mcp.fish

`docker mcp` is completed by the script of `docker completion`.")]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "docker-mcp", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Status::Success)
}
