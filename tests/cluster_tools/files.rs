//! Commands that need no cluster: files, and what is printed.

use std::fs;

use crate::Tools;

const CATALOG: &str = "\
registry:
  github:
    image: mcp/github
    command: ['--host={{github.host}}', '--log=info']
    env:
      - {name: API, value: 'https://{{github.host}}/api/{{github.version}}'}
      - {name: MODE, value: fast}
    secrets:
      - {name: github.token, env: GITHUB_TOKEN}
      - {name: github.proxy_password, env: PROXY_PASSWORD, required: false}
    config:
      - name: github
        type: object
        required: [host]
        properties: {host: {type: string}, version: {type: string, default: v3}}
  docs:
    remote:
      url: 'https://{{docs.site}}/mcp'
      headers: {Authorization: 'Bearer ${DOCS_TOKEN}'}
    secrets: [{name: docs.token, env: DOCS_TOKEN}]
";

fn tools() -> Tools {
    let tools = Tools::new();
    tools.file(".docker/mcp/catalogs/team.yaml", CATALOG);
    tools
}

#[test]
fn servers_are_looked_at_and_files_are_made_without_a_cluster() {
    let mut tools = tools();
    tools
        .step("extract-data github")
        .step("extract-data docs --format json")
        .step("extract-data githb")
        .step("show-example github")
        .step("show-example docs --format json")
        .step("generate-env github,docs team --dry-run")
        .step("generate-env github,docs team")
        .show("team-config.env")
        .show("team-secret.env")
        .step("generate-env github team --format json")
        .step("populate-configmap team-config.env my-mcp-config --dry-run")
        .step("populate-secret team-secret.env my-mcp-secrets mcp --dry-run --format json");
    tools.end("cluster_tools_files");
}

#[test]
fn help_is_worth_reading() {
    let mut tools = Tools::new();
    tools.step("--help");
    for command in [
        "list",
        "session",
        "stale",
        "extract-data",
        "generate-env",
        "show-example",
        "populate-configmap",
        "populate-secret",
        "create-configmap",
        "create-secret",
        "check",
        "rbac",
    ] {
        tools.step(&format!("{command} --help"));
    }
    tools.end("cluster_tools_help");
}

#[test]
fn roles_are_printed_for_each_mode_and_read_no_secret_that_is_not_named() {
    let mut tools = Tools::new();
    tools
        .step("rbac mcp")
        .step("rbac --cluster-secret-provider docker-engine --cluster-config-provider docker-engine --user ada")
        .step("rbac --cluster-secret-provider docker-engine --cluster-config-name settings --read-secret pull --format json")
        .step("rbac Bad_Namespace");
    tools.end("cluster_tools_rbac");
}

#[test]
fn bad_input_is_answered_with_what_to_do() {
    let mut tools = tools();
    tools.file("bad.env", "A=1\nhunter2-canary\n");
    tools.file("slash.env", "a/b=canary\n");
    tools.file("nothing.kubeconfig", "apiVersion: v1\nkind: Config\n");
    tools
        .step("populate-secret missing.env my-mcp-secrets")
        .step("populate-secret bad.env my-mcp-secrets")
        .step("populate-configmap slash.env my-mcp-config")
        .step("populate-secret bad.env Bad_Name")
        .words(&["create-secret", "s", r#"{"a": ["canary"]}"#])
        .words(&["create-secret", "s", r#"{"a": "canary""#])
        .words(&["create-secret", "S", "{}", "--dry-run"])
        .words(&["create-secret", "s", "{}", "a", "--namespace", "b", "--dry-run"])
        .words(&["create-secret", &"s".repeat(250), "{}", "--dry-run"])
        .step("stale yesterday")
        .step("list")
        .step("list --kubeconfig missing.kubeconfig")
        .step("list --kubeconfig nothing.kubeconfig --kube-context other")
        .step("generate-env nothing x")
        .step("check --catalog missing.yaml");
    assert!(!tools.told.replace(r#"["canary"]"#, "").replace(r#""canary""#, "").contains("canary"), "{}", tools.told);
    tools.end("cluster_tools_bad_input");
}

#[test]
fn a_file_that_somebody_filled_in_is_not_replaced() {
    let tools = tools();
    tools.run(&["generate-env", "github", "out"]).ok();
    // Nobody wrote anything yet.
    tools.run(&["generate-env", "github,docs", "out"]).ok();
    let filled = tools.read("out-secret.env").replace("<REPLACE_WITH_YOUR_SECRET>", "canary");
    tools.file("out-secret.env", &filled);
    tools.file("out-config.env", "# to be replaced\n");
    let error = tools.run(&["generate-env", "github", "out"]).failed();
    assert!(
        error.contains("`out-secret.env` is filled in (`docs.token` has a value); replace it with `--force`"),
        "{error}"
    );
    assert!(!error.contains("canary"));
    // Neither of the two is touched.
    assert_eq!((tools.read("out-secret.env"), tools.read("out-config.env")), (filled, "# to be replaced\n".to_owned()));
    tools.file("out-secret.env", "what is this?\n");
    assert!(tools.run(&["generate-env", "github", "out"]).failed().contains("not what `generate-env` writes"));
    tools.run(&["generate-env", "github", "out", "--force"]).ok();
    assert!(tools.read("out-secret.env").contains("github.token=<REPLACE_WITH_YOUR_SECRET>"));
    let left =
        fs::read_dir(tools.home.path()).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    assert!(left.into_iter().all(|name| !name.starts_with(".cluster-tools-")));
}

#[cfg(unix)]
#[test]
fn files_to_fill_in_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let tools = tools();
    tools.file("out-secret.env", "");
    fs::set_permissions(tools.path("out-secret.env"), fs::Permissions::from_mode(0o644)).unwrap();
    tools.run(&["generate-env", "github", "out"]).ok();
    for name in ["out-secret.env", "out-config.env"] {
        assert_eq!(fs::metadata(tools.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let error = tools.run(&["generate-env", "github", "nowhere/out"]).failed();
    assert!(error.contains("cannot write `nowhere/out-config.env`"), "{error}");
}

/// Defect 23 of the existing tools: commands that only read catalogs and files wanted a kubeconfig.
#[test]
fn commands_about_files_look_for_no_kubeconfig() {
    let mut tools = tools();
    tools.kubeconfig = Some("/nowhere/kubeconfig".into());
    tools.file("x.env", "A=1\n");
    for words in [
        &["extract-data", "github"][..],
        &["show-example", "github"],
        &["generate-env", "github", "out"],
        &["populate-configmap", "x.env", "c", "--dry-run"],
        &["populate-secret", "x.env", "s", "--dry-run"],
        &["create-secret", "s", "{}", "--dry-run"],
        &["rbac"],
    ] {
        tools.run(words).ok();
    }
}
