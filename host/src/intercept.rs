//! `--interceptor`: programs of the operator that look at every call of a tool, and may answer in its place.
//!
//! It owns what an interceptor is and how each kind is run. Which calls pass through them, in which order, and what
//! becomes of a failure is the gateway's business.

mod container;
#[cfg(unix)]
mod exec;
mod http;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use provisioning_core::ContainerSpec;
use thiserror::Error;

pub use self::container::Containers;
use crate::audit::line::{Members, name};
use crate::audit::record::{self, Verdict};
use crate::audit::{self, Call, Ending};

/// How much an interceptor may answer.
pub const MAX_ANSWER: usize = 4 << 20;

/// When an interceptor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before the call. What it answers is the result, and the tool is not called.
    Before,
    /// After the call. What it answers replaces the result.
    After,
}

/// What to run, from the command line: `before|after:exec|docker|http:TARGET`.
#[derive(Clone, PartialEq, Eq)]
pub struct Specification {
    when: When,
    how: How,
}

#[derive(Clone, PartialEq, Eq)]
enum How {
    /// A command for `/bin/sh`.
    Exec(String),
    /// An image, and arguments for its entry point.
    Docker { image: String, arguments: Vec<String> },
    /// An address to post to.
    Http(reqwest::Url),
}

/// The kind only: commands and addresses may hold credentials.
impl fmt::Display for Specification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.when {
            When::Before => "before",
            When::After => "after",
        };
        match &self.how {
            How::Exec(_) => write!(f, "{when}:exec"),
            How::Docker { image, .. } => write!(f, "{when}:docker:{image}"),
            How::Http(_) => write!(f, "{when}:http"),
        }
    }
}

impl fmt::Debug for Specification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Specification {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write `before:exec:COMMAND`, `after:docker:IMAGE [ARGUMENT…]`, `before:http:URL` or the like";
        let mut parts = text.splitn(3, ':');
        let (Some(when), Some(kind), Some(target)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("it has three parts; {form}"));
        };
        let when = match when.to_ascii_lowercase().as_str() {
            "before" => When::Before,
            "after" => When::After,
            other => return Err(format!("`{other}` is neither `before` nor `after`; {form}")),
        };
        let target = target.trim();
        if target.is_empty() {
            return Err(format!("nothing follows `{kind}:`; {form}"));
        }
        let how = match kind.to_ascii_lowercase().as_str() {
            "exec" if cfg!(unix) => How::Exec(target.to_owned()),
            "exec" => return Err("`exec` needs `/bin/sh`, which this system does not have; use `docker`".to_owned()),
            "docker" => {
                let (image, rest) = target.split_once(char::is_whitespace).unwrap_or((target, ""));
                let arguments = shlex::split(rest)
                    .ok_or_else(|| "a quote in the arguments of the image is not closed; close it".to_owned())?;
                How::Docker { image: image.to_owned(), arguments }
            }
            "http" => How::Http(http::address(target)?),
            other => return Err(format!("`{other}` is none of `exec`, `docker` and `http`; {form}")),
        };
        Ok(Self { when, how })
    }
}

/// Why an interceptor gave no answer. The text holds nothing of the message, nor of a command or address.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct InterceptError(pub(crate) String);

/// An interceptor, ready to run.
#[derive(Clone, Debug)]
pub struct Interceptor {
    specification: Specification,
    containers: Arc<Containers>,
    limit: Duration,
}

impl Interceptor {
    /// An interceptor whose every run ends after `limit`.
    pub fn new(specification: Specification, containers: Arc<Containers>, limit: Duration) -> Self {
        Self { specification, containers, limit }
    }

    /// When it runs.
    pub fn when(&self) -> When {
        self.specification.when
    }

    /// What it is, for messages.
    pub fn name(&self) -> String {
        self.specification.to_string()
    }

    /// Shows it a message and takes its answer, empty if it lets things be. Dropping the future ends whatever runs.
    ///
    /// # Errors
    /// If it cannot be run, fails, takes too long or answers too much, and while a required audit log cannot be written.
    pub async fn run(&self, message: Vec<u8>) -> Result<Vec<u8>, InterceptError> {
        if let Some(missing) = self.containers.audit.missing() {
            return Err(InterceptError(missing.to_owned()));
        }
        let spec = match &self.specification.how {
            How::Docker { image, arguments } => Some(self.containers.spec(image, arguments)),
            How::Exec(_) | How::Http(_) => None,
        };
        let mut recording = self.containers.audit.own();
        let call = Call { interface: audit::OWN, function: "intercept", acts: true };
        recording.enter(0, call, |arguments| self.describe(spec.as_ref(), arguments));
        let mut decided = record::Decision::new(Verdict::Allowed, "operator");
        let running = async {
            match &self.specification.how {
                #[cfg(unix)]
                How::Exec(command) => exec::run(command, &message).await,
                #[cfg(not(unix))]
                How::Exec(_) => Err("this system has no `/bin/sh`".to_owned()),
                How::Docker { image, arguments } => {
                    let spec = spec.unwrap_or_else(|| self.containers.spec(image, arguments));
                    self.containers.run(spec, message, self.limit, &mut decided).await
                }
                How::Http(address) => http::run(address.clone(), message).await,
            }
        };
        let outcome = tokio::time::timeout(self.limit, running).await;
        let is_late = outcome.is_err();
        let answer = outcome.unwrap_or_else(|_| Err(format!("it did not answer within {} s", self.limit.as_secs())));
        let case = match decided.verdict {
            Verdict::Denied => "access-denied",
            Verdict::Allowed if is_late => "timed-out",
            Verdict::Allowed => "other",
        };
        recording.leave(Some(decided), |_| match &answer {
            Ok(_) => Ending::ok(),
            Err(reason) => Ending::failed(case, reason),
        });
        answer.map(|answer| answer.trim_ascii().to_vec()).map_err(InterceptError)
    }

    /// What is recorded of it. Commands, addresses and arguments may hold credentials.
    fn describe(&self, spec: Option<&ContainerSpec>, arguments: &mut Members<'_>) {
        arguments.text(name::INTERCEPTOR, self.name());
        if let Some(spec) = spec {
            arguments.text(name::IMAGE, &spec.image);
            arguments.word(name::NETWORK, "declared");
            arguments.json(name::CPU_MILLIS, spec.resources.cpu_millis);
            arguments.json(name::MEMORY_BYTES, spec.resources.memory_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use provisioning_core::Resources;

    use super::*;
    use crate::audit::Audit;
    use crate::capability::container_runtime::Quiet;
    use crate::capability::container_runtime::plan::PlanRuntime;
    use crate::lease::Reaper;

    #[test]
    fn specifications_are_read_as_the_existing_gateway_does_and_never_shown_whole() {
        let read = |text: &str| text.parse::<Specification>().map(|specification| specification.to_string());
        assert_eq!(read("before:exec:/bin/check --key=s3cret:x").unwrap(), "before:exec");
        assert_eq!(read("AFTER:Docker:img:1 'a b' c").unwrap(), "after:docker:img:1");
        assert_eq!(read("before:http:http://user:s3cret@host/x").unwrap(), "before:http");
        assert_eq!(read("before:http:localhost:8080/x").unwrap(), "before:http");
        for (text, wrong) in [
            ("before:exec", "it has three parts"),
            ("around:exec:x", "`around` is neither"),
            ("before:ssh:x", "`ssh` is none of"),
            ("before:exec: ", "nothing follows `exec:`"),
            ("before:docker:img 'open", "a quote"),
            ("before:http:ftp://host", "`ftp`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
        let parsed: Specification = "after:docker:img:1 'a b' c".parse().unwrap();
        assert!(parsed.how == How::Docker { image: "img:1".into(), arguments: vec!["a b".into(), "c".into()] });
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_is_run_while_a_required_audit_log_cannot_be_written() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("audit");
        let options = audit::Options {
            directory: directory.clone(),
            session: "s".to_owned(),
            retention: audit::Retention::default(),
        };
        let audit = Audit::open_required(options).unwrap();
        let containers = Containers {
            runtime: Arc::new(PlanRuntime::new("docker", Reaper::new())),
            session: "s".to_owned(),
            resources: Resources::default(),
            audit: audit.clone(),
            policies: Arc::default(),
            progress: Arc::new(Quiet),
        };
        let specification = format!("before:exec:echo ran >> {}/marks", place.path().display()).parse().unwrap();
        let interceptor = Interceptor::new(specification, Arc::new(containers), Duration::from_secs(60));
        let marks = || std::fs::read_to_string(place.path().join("marks")).unwrap_or_default().lines().count();
        interceptor.run(Vec::new()).await.unwrap();
        assert_eq!(marks(), 1);
        std::fs::remove_dir_all(&directory).unwrap();
        // That is found out when the next record is written.
        let refusal = async {
            loop {
                if let Err(refused) = interceptor.run(Vec::new()).await {
                    return refused.to_string();
                }
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(60), refusal).await.unwrap();
        assert!(refused.contains("a policy requires the audit log"), "{refused}");
        let before = marks();
        interceptor.run(Vec::new()).await.unwrap_err();
        assert_eq!(marks(), before);
    }
}
