//! A component that dies at a host call, at every one of them: nothing is left.

use std::collections::BTreeSet;
use std::sync::Arc;

use docker_mcp::provision::Provision as _;
use docker_mcp::provision::sandboxed::SandboxedProvisioner;
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::Source;
use tokio_util::sync::CancellationToken;

use crate::attempt::{Attempt, PERMISSIVE};
use crate::attempt::{GRANTS, Seen, name, red_team, with};
use crate::world::{Around, World, docker};

/// More host calls than any provisioning of these tests makes.
const MOST: u32 = 200;

/// Those of the grants that need no image besides the entry's.
pub(crate) const SOME: [&str; 5] =
    ["add-label=team.", "add-env=ADDED", "rewrite-command", "rewrite-user=65532", "add-argument=--added"];

/// The others as well, with an image that the test makes.
pub(crate) const EVERY: [&str; 9] = [
    "add-label=team.",
    "add-env=ADDED",
    "rewrite-command",
    "rewrite-user=65532",
    "rewrite-user=nobody-of-this-name",
    "add-argument=--added",
    "rewrite-image=registry.example",
    "add-mount=docker-mcp-test-red-team",
    "add-host=evil:198.51.100.6",
];

#[tokio::test]
async fn a_component_that_dies_before_any_of_its_host_calls_leaves_nothing() {
    for (grants, suffix) in [
        (&[][..], ""),
        (&SOME[..], " grants"),
        (&GRANTS[..], ""),
        (
            &[
                "rewrite-user=65532",
                "add-env=ADDED",
                "add-label=team.",
                "rewrite-command",
                "rewrite-image=registry.example",
            ][..],
            " grants",
        ),
    ] {
        for policy in [None, Some(PERMISSIVE)] {
            let mut ends = BTreeSet::new();
            let all = 'all: {
                for number in 0..MOST {
                    let text = format!("{number}{suffix}");
                    // That nothing is left is checked for every attempt.
                    let seen = Attempt::new("kill", &text).granted(grants).under(policy).made().await;
                    if seen.result.is_ok() {
                        break 'all number;
                    }
                    assert_eq!(seen.ended().outcome.as_deref(), Some("trapped"), "{seen:?}");
                    ends.insert(last_call(&seen));
                }
                panic!("it never got to its end");
            };
            assert!(all > 40, "{all}");
            // It died after each kind of call that there is.
            for function in [
                "log",
                "resolve-secrets",
                "resolve-environment",
                "resolve-command",
                "resolve-volumes",
                "resolve-user",
                "connect",
                "name",
                "start",
                "stop",
                "run",
                "drop-container",
            ] {
                assert!(ends.contains(function), "{function}: {ends:?}");
            }
        }
    }
}

/// The last function that an operation called before it ended.
fn last_call(seen: &Seen) -> String {
    let calls = seen.records.iter().filter(|record| record.server.is_some());
    calls.filter_map(|record| record.function.as_deref()).next_back().unwrap_or_default().to_owned()
}

/// The same from the other side: the host ends the component at its n-th call, whichever component it is.
#[tokio::test]
async fn a_component_that_is_ended_at_any_of_its_host_calls_leaves_nothing() {
    let kill = name("kill", "999");
    for (source, server) in [(docker as fn() -> Source, "s".to_owned()), (red_team, kill)] {
        let catalog = crate::world::CATALOG.replace("NAME", &server);
        let mut ended = None;
        for calls in 0..MOST {
            let limits = Limits { host_calls: calls, ..Limits::default() };
            let around = Around { limits, ..Around::default() };
            let world = World::within(source(), &with(&[]), &server, &catalog, around);
            let result = world.provision(&server).await;
            let is_done = result.is_ok();
            drop(result);
            assert_eq!(world.left().await, 0, "{server} at {calls}");
            if is_done {
                ended = Some(calls);
                break;
            }
        }
        assert!(ended.is_some_and(|calls| calls > 6), "{server}: {ended:?}");
    }
}

/// The caller goes away at every point of a provisioning at which it waits.
#[tokio::test]
async fn a_caller_who_goes_away_at_any_step_leaves_nothing() {
    let server = name("kill", "999");
    let catalog = crate::world::CATALOG.replace("NAME", &server);
    let world = World::within(red_team(), &with(&[]), &server, &catalog, Around::default());
    world.provisioner.ready().await.unwrap();
    let provisioner: &SandboxedProvisioner = &world.provisioner;
    for polls in 0..400 {
        let mut work = Box::pin(provisioner.provision(&server, CancellationToken::new()));
        let mut is_done = false;
        for _ in 0..polls {
            if let std::task::Poll::Ready(result) = futures::poll!(work.as_mut()) {
                is_done = result.is_ok();
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(work);
        assert_eq!(world.left().await, 0, "after {polls} steps");
        if is_done {
            eprintln!("done after {polls} steps");
            return;
        }
    }
    panic!("it never got to its end");
}

/// Memories, tables and stacks of those that died are used again: there are more operations here than there is room for.
#[tokio::test]
async fn more_components_die_than_there_is_room_for() {
    let server = name("kill", "20");
    let catalog = crate::world::CATALOG.replace("NAME", &server);
    let world = Arc::new(World::within(red_team(), &with(&[]), &server, &catalog, Around::default()));
    world.provisioner.ready().await.unwrap();
    for _ in 0..12 {
        let many = (0..100).map(|_| {
            let (world, server) = (Arc::clone(&world), server.clone());
            async move { world.provision(&server).await.map(drop).unwrap_err() }
        });
        for error in futures::future::join_all(many).await {
            assert!(error.to_string().contains("unreachable"), "{error}");
        }
    }
    assert_eq!(world.left().await, 0);
}
