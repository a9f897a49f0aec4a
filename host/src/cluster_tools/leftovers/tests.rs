use k8s_openapi::jiff::SignedDuration;
use serde_json::json;

use super::*;

const NOW: i64 = 1_800_000_000;

fn lease(name: &str, uid: &str, renewed: i64, duration: Option<i32>) -> Lease {
    let at = |seconds: i64| (Timestamp::from_second(NOW).unwrap() + SignedDuration::from_secs(seconds)).to_string();
    let mut lease = json!({
        "metadata": { "name": name, "uid": uid, "creationTimestamp": at(-10_000) },
        "spec": { "renewTime": at(renewed).replace('Z', ".000000Z") },
    });
    if let Some(duration) = duration {
        lease["spec"]["leaseDurationSeconds"] = json!(duration);
    }
    serde_json::from_value(lease).unwrap()
}

fn pod(owner: Option<(&str, &str)>) -> Left {
    let mut metadata = json!({
        "name": "mcp-time-1", "uid": "p", "labels": { "mcp-gateway.docker.com/session": "s" },
    });
    if let Some((name, uid)) = owner {
        metadata["ownerReferences"] =
            json!([{ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": name, "uid": uid }]);
    }
    Left::of("pod", serde_json::from_value(metadata).unwrap(), Timestamp::from_second(NOW).unwrap())
}

fn leftovers(leases: Vec<Lease>) -> Leftovers {
    let leases = leases.into_iter().map(|lease| (lease.metadata.name.clone().unwrap(), lease)).collect();
    Leftovers { objects: Vec::new(), leases, now: Timestamp::from_second(NOW).unwrap() }
}

#[test]
fn a_session_is_dead_when_its_lease_ran_out_or_is_gone_and_only_then() {
    for (leases, owner, expected) in [
        (vec![lease("s", "1", -60, Some(60))], Some(("s", "1")), Life::Living),
        // A renewal may be on its way.
        (vec![lease("s", "1", -90, Some(60))], Some(("s", "1")), Life::Living),
        (vec![lease("s", "1", -91, Some(60))], Some(("s", "1")), Life::Expired(31)),
        (vec![lease("s", "1", 600, Some(60))], Some(("s", "1")), Life::Living),
        (vec![lease("s", "1", -9_999, None)], Some(("s", "1")), Life::Unknown),
        // Another Lease of the same name owns nothing of the first.
        (vec![lease("s", "2", 0, Some(60))], Some(("s", "1")), Life::Gone),
        (vec![], Some(("s", "1")), Life::Gone),
        // Its age says nothing: another gateway may still use it.
        (vec![lease("s", "1", -9_999, Some(60))], None, Life::Unknown),
    ] {
        let all = leftovers(leases);
        assert_eq!(all.life(&pod(owner)), expected);
        assert_eq!(expected.is_dead(), matches!(expected, Life::Expired(_) | Life::Gone));
    }
}

#[test]
fn ages_are_short() {
    for (seconds, expected) in [(-5, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d")] {
        assert_eq!(in_short(seconds), expected);
    }
}
