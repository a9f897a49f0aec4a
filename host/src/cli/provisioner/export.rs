//! `docker-mcp provisioner export`.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

use super::super::Status;
use super::{Subject, write_new};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// A built-in or installed provisioner
    #[arg(value_name = "NAME")]
    name: String,
    /// Where to write its bytes; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let subject = Subject::find(&arguments.name)?;
    if arguments.file.as_os_str() == "-" {
        let mut stdout = std::io::stdout().lock();
        ensure!(!stdout.is_terminal(), "a component is no text; name a file");
        stdout.write_all(&subject.bytes)?;
    } else {
        write_new(&arguments.file, &subject.bytes, arguments.force)?;
        eprintln!("wrote `{}`, sha256:{}", arguments.file.display(), subject.inspection.digest);
    }
    Ok(Status::Success)
}
