//! What an import means in plain words, and how much harm it could do. The gateway's own judgement, for people who do
//! not know WebAssembly.

use serde::Serialize;

use super::read::Item;
use super::{Kind, wasi};
use crate::sandbox::contract::{PACKAGE, VERSION};

/// How much harm an import could do if it were granted, inside the bounds that hold for every component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// None: names of types and handles without any function that reaches something.
    None,
    /// It can be a nuisance.
    Low,
    /// It reaches what belongs to the one server that it serves.
    Medium,
    /// It makes things happen outside of the gateway, or is handed something precious.
    High,
    /// Unknown: this gateway does not have it, so no component that imports it runs.
    Refused,
}

impl Risk {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Refused => "refused",
        }
    }
}

/// The interfaces of the contract.
const OWN: [(&str, Risk, &str); 10] = [
    ("types", Risk::None, "Words that both sides share, such as what an error looks like. Reaches nothing."),
    ("values", Risk::None, "Sealed values, to be passed on without seeing what is in them. Reaches nothing."),
    (
        "handles",
        Risk::None,
        "Tickets for containers and connections that the gateway holds. Reaches nothing by itself.",
    ),
    (
        "log",
        Risk::Low,
        "Writes lines to the gateway's log, bounded in number and length. It could write misleading lines.",
    ),
    (
        "config-resolver",
        Risk::Medium,
        "Gets the configuration of the one server it deploys as sealed values: it can hand them to that server where \
         the catalog entry puts them, and never read them.",
    ),
    (
        "remote-endpoint",
        Risk::Medium,
        "Lets the gateway connect to the remote address that the catalog entry names, and to no other.",
    ),
    (
        "secret-resolver",
        Risk::High,
        "Gets the secrets of the one server it deploys as sealed values: it can hand them to that server where the \
         catalog entry puts them, and never read, compare or print them.",
    ),
    (
        "container-runtime",
        Risk::High,
        "Starts, runs and stops containers for the one server it deploys. The gateway refuses what the catalog entry \
         does not allow: image, command, variables, mounts, user, network, limits.",
    ),
    (
        "cluster-objects",
        Risk::High,
        "Has sealed values kept in a Secret and a ConfigMap of what it starts in a Kubernetes cluster, instead of in the \
         pod. Both are made and deleted with the pod.",
    ),
    ("template-mapping", Risk::None, "Says which key of a cluster object a template means. Reaches nothing."),
];

/// The risk of an import and what it means.
pub(super) fn of(item: &Item, offered: bool) -> (Risk, String) {
    if item.name.starts_with("wasi:") {
        return match wasi::linked(&item.name) {
            Some((risk, words)) => {
                (risk, format!("WASI, the system interface of WebAssembly: {words}. A provisioner needs none of it."))
            }
            None => (
                Risk::Refused,
                "A part of WASI, the system interface of WebAssembly, that this gateway does not link, so the component will \
                 not run. A provisioner needs none of it."
                    .to_owned(),
            ),
        };
    }
    let own =
        item.name.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')).and_then(|rest| rest.split_once('@'));
    match own {
        Some((name, VERSION)) => {
            if let Some((_, risk, words)) = OWN.iter().find(|(own, ..)| *own == name) {
                return match offered {
                    true => (*risk, (*words).to_owned()),
                    false => (
                        Risk::Refused,
                        format!(
                            "{words} No gateway offers it, because it is for components to offer: the component will not run."
                        ),
                    ),
                };
            }
        }
        Some(_) => {
            return (
                Risk::Refused,
                format!(
                    "The gateway's contract in another version; this gateway serves {VERSION}. The component will not run."
                ),
            );
        }
        None => {}
    }
    let words = match item.kind {
        Kind::Type => return (Risk::None, "The name of a type. Reaches nothing.".to_owned()),
        Kind::Function => "A function outside of any interface.",
        Kind::Module | Kind::Component => "Code that is to be handed in from outside.",
        Kind::Value => "A value that is to be handed in from outside.",
        Kind::Interface => "Nothing that this gateway knows.",
    };
    (Risk::Refused, format!("{words} No gateway of this contract offers it, so the component will not run."))
}
