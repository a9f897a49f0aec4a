//! The `secret-resolver` interface: the server's secrets as opaque values. No secret's text is read here.

use super::{Context, Failure};
use crate::sandbox::bindings::mcp_gateway::provisioning::secret_resolver::Host;
use crate::sandbox::bindings::mcp_gateway::provisioning::values::Binding;

impl Host for Context {
    async fn resolve_secrets(&mut self) -> Result<Vec<Binding>, Failure> {
        let scope = self.enter()?.clone();
        let bindings = super::guarded(&self.cancel, "looking up secrets", super::RESOLVE_TIME, scope.secrets()).await?;
        self.permit(bindings.iter().map(|(_, value)| value))?;
        self.bind(bindings)
    }
}
