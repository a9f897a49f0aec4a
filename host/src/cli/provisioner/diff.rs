//! `docker-mcp provisioner diff`: what a new version of a component wants more.

use clap::Args;
use serde_json::json;

use super::super::Status;
use super::{Format, Subject, render};
use crate::inspect::Difference;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The version that is known: a name or a file
    #[arg(value_name = "FIRST")]
    first: String,
    /// The version that is new: a name or a file
    #[arg(value_name = "SECOND")]
    second: String,
    /// How to show it
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let (first, second) = (Subject::find(&arguments.first)?, Subject::find(&arguments.second)?);
    let difference = Difference::between(&first.inspection, &second.inspection);
    match arguments.format {
        Format::Text => {
            let (first, second) =
                ((first.name.as_str(), &first.inspection), (second.name.as_str(), &second.inspection));
            print!("{}", render::difference(first, second, &difference));
        }
        Format::Json => {
            let of = |subject: &Subject| json!({"name": subject.name, "digest": subject.inspection.digest, "bytes": subject.inspection.bytes});
            let document = json!({"first": of(&first), "second": of(&second), "difference": difference});
            println!("{}", serde_json::to_string_pretty(&document)?);
        }
    }
    Ok(if difference.wants_something_new() { Status::Partial } else { Status::Success })
}
