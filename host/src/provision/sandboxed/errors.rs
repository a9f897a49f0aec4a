//! What failed in the host or in a component, as the one who asked for a server is told. It adds nothing to the texts.

use crate::capability::container_runtime::RuntimeError;
use crate::provision::ProvisionError;
use crate::resolve::ResolveError;
use crate::sandbox::bindings::mcp_gateway::provisioning::types;
use crate::sandbox::operation::{OperationError, text};

impl From<ResolveError> for ProvisionError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::SecretStore(text) => Self::Unavailable(text),
            ResolveError::Forbidden(text) => Self::Denied(text),
            ResolveError::Mapping(text) => Self::Component(text),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<RuntimeError> for ProvisionError {
    fn from(error: RuntimeError) -> Self {
        let text = error.to_string();
        match error {
            RuntimeError::Image { .. }
            | RuntimeError::Invalid(_)
            | RuntimeError::Conflict(_)
            | RuntimeError::Secret(_) => Self::Invalid(text),
            RuntimeError::Denied(_) => Self::Denied(text),
            RuntimeError::Unavailable(_) => Self::Unavailable(text),
            RuntimeError::TimedOut { .. } => Self::TimedOut(text),
            RuntimeError::Engine(_) => Self::Other(text),
        }
    }
}

impl From<OperationError> for ProvisionError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Refused(refusal) => {
                let text = text(&refusal).to_owned();
                match refusal {
                    types::Error::AccessDenied(_) => Self::Denied(text),
                    types::Error::NotFound(_) | types::Error::Invalid(_) | types::Error::Conflict(_) => {
                        Self::Invalid(text)
                    }
                    types::Error::Unavailable(_) => Self::Unavailable(text),
                    types::Error::TimedOut(_) => Self::TimedOut(text),
                    types::Error::Other(_) => Self::Other(text),
                }
            }
            stopped @ (OperationError::Stopped { .. } | OperationError::Trapped { .. }) => {
                Self::Component(stopped.to_string())
            }
        }
    }
}
