//! Names of environment variables that decide where traffic goes, whom a process trusts, or what code it runs.
//!
//! A list of parts of names, wider than need be: a name that is taken for powerful only has to be written out in a grant. What
//! each group is from stands with it.

/// Where traffic goes.
const TRAFFIC: [&str; 36] = [
    // `*_PROXY` of curl(1), Go's net/http, Python's urllib and many more, in any case; GOPROXY; SOCKS_SERVER; JAVA's
    // settings are options.
    "PROXY",
    "SOCKS",
    // Addresses of services as programs call them: DATABASE_URL, AWS_ENDPOINT_URL, OTEL_EXPORTER_OTLP_ENDPOINT, PGHOST,
    // SENTRY_DSN, KAFKA_BOOTSTRAP_SERVERS, npm's and pip's registries and indexes.
    "URL",
    "URI",
    "HOST",
    "ADDR",
    "ENDPOINT",
    "SERVER",
    "REGISTRY",
    "INDEX",
    "DSN",
    "BROKER",
    "UPSTREAM",
    "HOOK",
    "CALLBACK",
    // OPENAI_API_BASE, DD_SITE, ELASTICSEARCH_NODES, AZURE_STORAGE_CONNECTION_STRING, MINIO_GATEWAY, SMTP_RELAY,
    // CASSANDRA_SEEDS and words like these.
    "BASE",
    "SITE",
    "NODE",
    "CONNECTION",
    "ORIGIN",
    "MIRROR",
    "GATEWAY",
    "RELAY",
    "PEER",
    "SEEDS",
    "CLUSTER",
    "_PORT",
    // resolver(5) and hostname(7): RES_OPTIONS, LOCALDOMAIN, HOSTALIASES.
    "DOMAIN",
    "RES_OPTIONS",
    "DNS",
    // KUBECONFIG, DOCKER_HOST, and sockets of agents: SSH_AUTH_SOCK.
    "KUBE",
    "DOCKER_",
    "_SOCK",
    // curl(1), wget(1), libpq's service files.
    "NETRC",
    "WGETRC",
    "PGSERVICE",
];

/// Whom a process trusts, and what it writes down.
const TRUST: [&str; 14] = [
    // OpenSSL: SSL_CERT_FILE, SSL_CERT_DIR, OPENSSL_CONF, OPENSSL_MODULES; Node.js: NODE_EXTRA_CA_CERTS,
    // NODE_TLS_REJECT_UNAUTHORIZED; requests: REQUESTS_CA_BUNDLE; curl: CURL_CA_BUNDLE; SSLKEYLOGFILE of NSS and OpenSSL.
    "SSL", "TLS", "CERT", "CA_", "_CA", "CABUNDLE", "CAFILE", "KEYLOG", "TRUST", "VERIFY", "INSECURE",
    // kerberos(7), gpg(1), ssh(1): SSH_ASKPASS, SUDO_ASKPASS.
    "KRB5", "GNUPG", "ASKPASS",
];

/// What code runs.
const CODE: [&str; 84] = [
    // ld.so(8), dyld(1): LD_PRELOAD, LD_LIBRARY_PATH, LD_AUDIT, GLIBC_TUNABLES, DYLD_INSERT_LIBRARIES; malloc(3); iconv's
    // GCONV_PATH, catgets' NLSPATH, terminfo(5).
    "PATH",
    "LD_",
    "DYLD_",
    "PRELOAD",
    "TUNABLES",
    "MALLOC",
    "TERMINFO",
    "TERMCAP",
    // Words of many programs.
    "PLUGIN",
    "PROFILE",
    "INIT",
    "STARTUP",
    "OPTIONS",
    "OPTS",
    "OPT",
    "FLAGS",
    "ARGS",
    "CONF",
    "SETTINGS",
    "WRAPPER",
    "COMMAND",
    "MODULE",
    "LIBRAR",
    "LOADER",
    "EXTENSION",
    "AGENT",
    "INSPECT",
    "DEBUG",
    "_EXEC",
    "_BIN",
    // SPRING_APPLICATION_JSON; FLASK_APP.
    "_JSON",
    "_APP",
    // Python: PYTHONPATH, PYTHONSTARTUP, PYTHONHOME, PYTHONWARNINGS; pip, uv, poetry, conda.
    "PYTHON",
    "PIP_",
    "UV_",
    "POETRY_",
    "CONDA",
    "GUNICORN",
    "UWSGI",
    // Perl and Ruby: PERL5LIB, PERL5OPT, PERL5DB, RUBYOPT, RUBYLIB, GEM_HOME, BUNDLE_GEMFILE.
    "PERL",
    "RUBY",
    "GEM_",
    "BUNDLE",
    // JavaScript: NODE_OPTIONS, npm_config_*, YARN_*, COREPACK_*, DENO_*, BUN_*, ELECTRON_RUN_AS_NODE.
    "NODE_",
    "NPM_",
    "YARN_",
    "PNPM",
    "COREPACK",
    "DENO",
    "BUN_",
    "ELECTRON",
    "PUPPETEER",
    "PLAYWRIGHT",
    // Java: JAVA_TOOL_OPTIONS, _JAVA_OPTIONS, JDK_JAVA_OPTIONS, CLASSPATH, MAVEN_OPTS.
    "JAVA",
    "JDK_",
    "JRE_",
    "MAVEN",
    "GRADLE",
    // .NET: DOTNET_STARTUP_HOOKS, CORECLR_PROFILER, COR_PROFILER, COMPlus_*.
    "DOTNET",
    "CORECLR",
    "COR_",
    "COMPLUS",
    // PHP, Lua, Erlang, Julia, R, Go, Rust.
    "PHP",
    "LUA_",
    "ERL_",
    "ELIXIR",
    "JULIA_",
    "R_LIBS",
    "GODEBUG",
    "CARGO_",
    "RUST",
    // git(1): GIT_SSH_COMMAND, GIT_EXTERNAL_DIFF, GIT_CONFIG_*; less(1): LESSOPEN.
    "GIT_",
    "LESS",
    // bash(1), dash(1), zsh(1): BASH_ENV, ENV, SHELLOPTS, IFS, PS4, PROMPT_COMMAND, ZDOTDIR, and what others start.
    "BASH",
    "SHELL",
    "ENV",
    "IFS",
    "PS4",
    "PROMPT",
    "ZDOTDIR",
    "HOME",
    "EDITOR",
    "VISUAL",
    "PAGER",
];

/// Whether a variable may be powerful. The name is in upper case.
pub(super) fn is_powerful(name: &str) -> bool {
    TRAFFIC.iter().chain(&TRUST).chain(&CODE).any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_about_traffic_trust_or_code_is_known() {
        for name in [
            "HTTP_PROXY",
            "https_proxy",
            "GOPROXY",
            "npm_config_https_proxy",
            "LD_PRELOAD",
            "LD_AUDIT",
            "GLIBC_TUNABLES",
            "DYLD_INSERT_LIBRARIES",
            "NODE_OPTIONS",
            "NODE_EXTRA_CA_CERTS",
            "NODE_TLS_REJECT_UNAUTHORIZED",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "BASH_ENV",
            "ENV",
            "PS4",
            "PROMPT_COMMAND",
            "SHELLOPTS",
            "ZDOTDIR",
            "JAVA_TOOL_OPTIONS",
            "_JAVA_OPTIONS",
            "CLASSPATH",
            "RUBYOPT",
            "PERL5OPT",
            "PERL5LIB",
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_COUNT",
            "SSL_CERT_FILE",
            "SSLKEYLOGFILE",
            "DOTNET_STARTUP_HOOKS",
            "COR_ENABLE_PROFILING",
            "CORECLR_PROFILER",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "npm_config_registry",
            "NPM_CONFIG_SCRIPT_SHELL",
            "YARN_RC_FILENAME",
            "PIP_INDEX_URL",
            "UV_INDEX",
            "DENO_DIR",
            "DENO_AUTH_TOKENS",
            "BUN_INSTALL",
            "OPENSSL_CONF",
            "OPENSSL_MODULES",
            "ELECTRON_RUN_AS_NODE",
            "PHP_INI_SCAN_DIR",
            "LUA_INIT",
            "ERL_AFLAGS",
            "GODEBUG",
            "RES_OPTIONS",
            "LOCALDOMAIN",
            "HOSTALIASES",
            "KUBECONFIG",
            "DOCKER_HOST",
            "SSH_ASKPASS",
            "SSH_AUTH_SOCK",
            "KRB5_CONFIG",
            "LESSOPEN",
            "GCONV_PATH",
            "TERMINFO",
            "AWS_ENDPOINT_URL",
            "DATABASE_URL",
            "OPENAI_API_BASE",
            "LITELLM_API_BASE",
            "DD_SITE",
            "ELASTICSEARCH_NODES",
            "REDIS_CLUSTER_NODES",
            "AZURE_STORAGE_CONNECTION_STRING",
            "MONGO_CONNECTION_STRING",
            "SMTP_RELAY",
            "CASSANDRA_SEEDS",
            "SPRING_APPLICATION_JSON",
            "FLASK_APP",
            "GTK_MODULES",
            "GUNICORN_CMD_ARGS",
            "DJANGO_SETTINGS_MODULE",
            "BUNDLE_GEMFILE",
            "GEM_HOME",
            "MAVEN_OPTS",
            "HOME",
            "PATH",
        ] {
            assert!(is_powerful(&name.to_ascii_uppercase()), "{name}");
        }
        for name in ["TOKEN", "TEAM_A", "LOG_LEVEL", "TZ", "LANG", "API_KEY", "REGION", "TIMEOUT_MS"] {
            assert!(!is_powerful(name), "{name}");
        }
    }
}
