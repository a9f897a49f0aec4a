//! The `config-resolver` interface: the server's environment, command, volumes and user as opaque values.

use provisioning_core::Value;
use provisioning_core::value::{ObjectKind, Segment};
use wasmtime::component::Resource;

use super::{Context, Failure, guarded};
use crate::sandbox::bindings::mcp_gateway::provisioning::config_resolver::Host;
use crate::sandbox::bindings::mcp_gateway::provisioning::types::Error;
use crate::sandbox::bindings::mcp_gateway::provisioning::values::Binding;

impl Host for Context {
    async fn resolve_environment(&mut self) -> Result<Vec<Binding>, Failure> {
        let scope = self.enter()?.clone();
        let bindings = guarded(&self.cancel, WHAT, super::RESOLVE_TIME, scope.environment()).await?;
        self.permit(bindings.iter().map(|(_, value)| value))?;
        for (name, value) in &bindings {
            self.allow(&format!("environment variable `{name}`"), value)?;
        }
        self.bind(bindings)
    }

    async fn resolve_command(&mut self) -> Result<Vec<Resource<Value>>, Failure> {
        let scope = self.enter()?.clone();
        let values = guarded(&self.cancel, WHAT, super::RESOLVE_TIME, scope.command()).await?;
        self.permit(&values)?;
        values
            .into_iter()
            .map(|value| {
                self.allow("the command", &value)?;
                Ok(self.push_value(value)?)
            })
            .collect()
    }

    async fn resolve_volumes(&mut self) -> Result<Vec<Binding>, Failure> {
        let scope = self.enter()?.clone();
        let volumes = guarded(&self.cancel, WHAT, super::RESOLVE_TIME, scope.volumes()).await?;
        self.permit(volumes.iter().map(|(_, value)| value))?;
        for (template, value) in &volumes {
            self.allow(&format!("volume `{template}`"), value)?;
        }
        self.bind(volumes)
    }

    async fn resolve_user(&mut self) -> Result<Option<Resource<Value>>, Failure> {
        let scope = self.enter()?.clone();
        let user = guarded(&self.cancel, WHAT, super::RESOLVE_TIME, scope.user()).await?;
        let Some(user) = user else { return Ok(None) };
        self.permit([&user])?;
        self.allow("the user", &user)?;
        Ok(Some(self.push_value(user)?))
    }
}

const WHAT: &str = "resolving configuration";

impl Context {
    /// Configuration that carries a secret is given only to components that may hold secrets.
    fn allow(&self, what: &str, value: &Value) -> Result<(), Failure> {
        let secret = value.segments().iter().find_map(|segment| match segment {
            Segment::Secret(name) => Some(name),
            Segment::ClusterKey { kind: ObjectKind::Secret, key, .. } => Some(key),
            _ => None,
        });
        match secret {
            Some(secret) if !self.secrets_granted => Err(Failure::Kept(Error::AccessDenied(format!(
                "{what} carries secret `{secret}` and `secret-resolver` is not granted"
            )))),
            _ => Ok(()),
        }
    }
}
