//! The `cluster-tools` binary.

fn main() -> std::process::ExitCode {
    docker_mcp::cluster_tools::main()
}
