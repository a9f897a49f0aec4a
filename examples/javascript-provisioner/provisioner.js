// A provisioner in JavaScript: what the built-in `docker` one does, and a limit of its own on memory.
//
// It decides and asks; the gateway judges what it asks for and does it. Values are opaque: they are passed on and
// cannot be read. What WIT calls an option is null or the thing itself; an error is thrown as a case of `types.error`.

import { resolveSecrets } from 'mcp-gateway:provisioning/secret-resolver@0.1.0';
import {
  resolveCommand,
  resolveEnvironment,
  resolveUser,
  resolveVolumes,
} from 'mcp-gateway:provisioning/config-resolver@0.1.0';
import { name as runtimeName, run, start } from 'mcp-gateway:provisioning/container-runtime@0.1.0';
import { connect } from 'mcp-gateway:provisioning/remote-endpoint@0.1.0';
import { log } from 'mcp-gateway:provisioning/log@0.1.0';

// Servers get at most this, whatever the gateway would allow them.
const MEMORY = 512 * 1024 * 1024;

// What to run for the one server, or the one call of a tool, that this instance serves.
function container(image, spec) {
  const secrets = resolveSecrets();
  const explicit = resolveEnvironment();
  const named = new Set(explicit.map((variable) => variable.name));
  return {
    image,
    command: resolveCommand(),
    // A variable that the entry sets explicitly wins over one of the same name that a secret fills.
    environment: [...secrets.filter((secret) => !named.has(secret.name)), ...explicit],
    volumes: resolveVolumes().map(({ value }) => ({ value, readOnly: false })),
    user: resolveUser(),
    network: spec.network,
    hosts: spec.hosts,
    labels: [],
    resources: { ...spec.resources, memoryBytes: Math.min(spec.resources.memoryBytes, MEMORY) },
    security: { readOnlyRoot: false, dropCapabilities: true, runAsNonRoot: false },
  };
}

function invalid(text) {
  return { tag: 'invalid', val: text };
}

export const provisioner = {
  name() {
    return 'javascript';
  },

  initialize(_session, _servers) {},

  preValidateDeployment(_session, spec) {
    if (spec.remote === null && !spec.image?.trim()) {
      throw invalid(`server \`${spec.name}\` has neither an image nor a remote address`);
    }
  },

  provisionServer(_session, spec) {
    if (spec.remote !== null) {
      return { tag: 'remote', val: connect() };
    }
    log('debug', `starting \`${spec.image}\` on ${runtimeName()}`);
    return { tag: 'container', val: start(container(spec.image, spec)) };
  },

  applyToolProviders(_session, spec, tool) {
    if (!spec.image) {
      throw invalid(`tool \`${tool}\` names no image`);
    }
    return run(container(spec.image, spec));
  },

  shutdown(_session) {},
};
