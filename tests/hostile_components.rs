//! Components that no compiler would make: wrong handles, wrong imports, claims of gigabytes, and shapes that are
//! meant to break the host before anything runs. Each ends with an error, in bounded time and memory, with nothing
//! left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may end with a panic, and its output is shown when it fails"
)]

#[path = "support/raw_guest.rs"]
mod raw_guest;
#[path = "support/world.rs"]
#[allow(dead_code, reason = "each test crate uses its part")]
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use docker_mcp::builtin;
use docker_mcp::catalog::Catalog;
use docker_mcp::policy::grants::Grants;
use docker_mcp::provision::{Provision as _, ProvisionError};
use docker_mcp::sandbox::Limits;
use docker_mcp::sandbox::component::{LoadError, Provisioner, Source};
use docker_mcp::sandbox::engine::Engine;
use proptest::prelude::*;
use raw_guest::{File, declaring, provisioner};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use world::{ALL, World, docker};

/// How much more memory of the process than before is used at once by any test here, in MiB.
const MEMORY: u64 = 300;

/// Memory is the whole process's, so what uses some is alone.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Provisions with a component that must fail, and returns why. Everything that a test here promises is checked here.
async fn failure(bytes: &[u8]) -> String {
    let _alone = ALONE.lock().await;
    let (began, before) = (Instant::now(), peak_from_here());
    let file = File::new(bytes);
    let world = World::new(file.source(), ALL, "s");
    let error = world.provision("s").await.map(drop).expect_err("it must fail").to_string();
    assert_eq!(world.left().await, 0);
    assert!(began.elapsed() < Duration::from_secs(90), "it took {:?}", began.elapsed());
    let grown = peak_mebibytes().saturating_sub(before);
    assert!(grown < MEMORY, "it took {grown} MiB");
    assert!(error.len() < 20_000 && !error.contains(char::is_control), "{error}");
    eprintln!("{:?}, {grown} MiB: {error:.300}", began.elapsed());
    // The next operation does not notice.
    let world = World::new(docker(), ALL, "s");
    assert!(world.provision("s").await.is_ok());
    error
}

/// The most memory of the process so far, of which nothing counts that was before.
fn peak_from_here() -> u64 {
    // Linux forgets the peak when it is told this.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak_mebibytes()
}

fn peak_mebibytes() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) >> 10
}

/// What the host says of a component that is not even loaded.
fn refusal(bytes: &[u8]) -> String {
    let _alone = ALONE.blocking_lock();
    let (began, before) = (Instant::now(), peak_from_here());
    let file = File::new(bytes);
    let engine = Engine::new(None).unwrap();
    let error = Provisioner::load(&engine, &file.source(), ALL.parse().unwrap()).map(drop).expect_err("it must fail");
    let (error, grown) = (error.to_string(), peak_mebibytes().saturating_sub(before));
    assert!(began.elapsed() < Duration::from_secs(90), "it took {:?}", began.elapsed());
    assert!(grown < MEMORY, "it took {grown} MiB");
    assert!(error.len() < 20_000 && !error.contains(char::is_control), "{error}");
    eprintln!("{:?}, {grown} MiB: {error:.300}", began.elapsed());
    error
}

#[tokio::test]
async fn a_handle_that_the_guest_does_not_hold_ends_it() {
    let make = "(local.set $h (call $new (i32.const 16) (i32.const 4)))";
    let end = "(call $fail (i32.const 16) (i32.const 4))";
    let cases = [
        ("unknown", format!("(call $drop_value (i32.const 77)) {end}")),
        ("zero", format!("(call $drop_value (i32.const 0)) {end}")),
        ("negative", format!("(call $drop_value (i32.const -1)) {end}")),
        ("dropped twice", format!("{make} (call $drop_value (local.get $h)) (call $drop_value (local.get $h)) {end}")),
        ("of another type", format!("{make} (call $drop_container (local.get $h)) {end}")),
        ("stopped though a value", format!("{make} (call $stop (local.get $h) (i32.const 3000)) {end}")),
        ("stopped though unknown", format!("(call $stop (i32.const 5) (i32.const 3000)) {end}")),
        ("returned though unknown", "(call $container (i32.const 9))".to_owned()),
        ("returned though a value", format!("{make} (call $container (local.get $h))")),
        (
            "lent after it was dropped",
            format!(
                "{make} (call $drop_value (local.get $h)) (i32.store (i32.const 3000) (local.get $h))
                (drop (call $concat (i32.const 3000) (i32.const 1))) {end}"
            ),
        ),
        (
            // A specification of nothing but a command with one value twice.
            "given away twice",
            format!(
                "{make} (i32.store (i32.const 3000) (local.get $h)) (i32.store (i32.const 3004) (local.get $h))
                (i32.store (i32.const 4008) (i32.const 3000)) (i32.store (i32.const 4012) (i32.const 2))
                (call $start (i32.const 4000) (i32.const 3100)) {end}"
            ),
        ),
    ];
    for (case, body) in cases {
        let error = failure(&provisioner(4, "", &body)).await;
        let is_refused = error.contains("nothing that can be run here") || error.contains("failed");
        assert!(is_refused && !error.contains("done"), "{case}: {error}");
    }
}

#[tokio::test]
async fn text_that_is_not_there_or_no_text_ends_the_guest() {
    let end = "(call $fail (i32.const 16) (i32.const 4))";
    let new =
        |address: i64, length: i64| format!("(drop (call $new (i32.const {address}) (i32.const {length}))) {end}");
    let cases = [
        ("4 GiB", new(0, -1)),
        ("beyond its memory", new(262_000, 10_000)),
        ("wrapping around", new(-16, 32)),
        ("no UTF-8", format!("(i32.store (i32.const 3000) (i32.const 0xfffefdfc)) {}", new(3000, 4))),
        ("half a letter", format!("(i32.store8 (i32.const 3000) (i32.const 0xc3)) {}", new(3000, 1))),
        ("an error text of 4 GiB", "(call $fail (i32.const 0) (i32.const -1))".to_owned()),
        (
            "a list of a billion",
            "(drop (call $concat (i32.const 0) (i32.const 0x40000000))) (i32.const 1024)".to_owned(),
        ),
        ("a result that is not there", "(i32.const -4)".to_owned()),
        ("a result of no case", "(i32.store8 (i32.const 2048) (i32.const 7)) (i32.const 2048)".to_owned()),
    ];
    for (case, body) in cases {
        let error = failure(&provisioner(4, "", &body)).await;
        let is_refused = error.contains("nothing that can be run here") || error.contains("failed");
        assert!(is_refused && !error.contains("done"), "{case}: {error}");
    }
}

#[tokio::test]
async fn an_error_text_reaches_nobody_unbounded_or_with_control_characters() {
    let cut = "(memory.fill (i32.const 65536) (i32.const 0x1b) (i32.const 3000000)) (call $fail (i32.const 65536) (i32.const 3000000))";
    let error = failure(&provisioner(64, "", cut)).await;
    assert!(error.starts_with("\\u{1b}\\u{1b}") && error.ends_with('…'), "{error}");
    // More than may be copied at once.
    let much = "(memory.fill (i32.const 65536) (i32.const 120) (i32.const 33554432)) (call $fail (i32.const 65536) (i32.const 33554432))";
    assert!(failure(&provisioner(600, "", much)).await.contains("failed"));
}

/// Puts the handle in `$h` a number of times in a row at 1 MiB.
fn many(count: u32) -> String {
    format!(
        "(loop $again
            (i32.store (i32.add (i32.const 1048576) (i32.shl (local.get $i) (i32.const 2))) (local.get $h))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))"
    )
}

#[tokio::test]
async fn one_large_value_named_thousands_of_times_is_never_put_together() {
    let concat = |length: u32, count: u32| {
        format!(
            "(memory.fill (i32.const 2097152) (i32.const 120) (i32.const {length}))
            (local.set $h (call $new (i32.const 2097152) (i32.const {length}))) {}
            (drop (call $concat (i32.const 1048576) (i32.const {count}))) (call $fail (i32.const 16) (i32.const 4))",
            many(count)
        )
    };
    // Together 16 MiB, and 4 GiB.
    for length in [4 << 10, 1 << 20] {
        let error = failure(&provisioner(64, "", &concat(length, 4000))).await;
        assert!(error.contains("too much text"), "{error}");
    }
    // Next to nothing is allowed as often, and no text a hundred thousand times.
    assert_eq!(failure(&provisioner(64, "", &concat(1, 4000))).await, "done");
    assert!(failure(&provisioner(64, "", &concat(1, 100_000))).await.contains("failed"));
}

#[tokio::test]
async fn a_specification_of_countless_hosts_and_no_image_is_refused() {
    let start = |hosts: u32| {
        format!(
            "(i32.store (i32.const 4044) (i32.const 1048576)) (i32.store (i32.const 4048) (i32.const {hosts}))
            (call $start (i32.const 4000) (i32.const 3000))
            (call $fail (i32.load (i32.const 3008)) (i32.load (i32.const 3012)))"
        )
    };
    let error = failure(&provisioner(64, "", &start(10_000))).await;
    assert!(error.contains("image ``") && error.contains("is outside what the catalog entry allows"), "{error}");
    assert!(failure(&provisioner(64, "", &start(100_000))).await.contains("failed"));
}

#[tokio::test]
async fn what_a_module_does_or_claims_at_its_start_is_bounded() {
    let end = "(call $fail (i32.const 16) (i32.const 4))";
    let start = "(func $forever (loop $again (br $again))) (start $forever)";
    assert!(failure(&provisioner(4, start, end)).await.contains("computing time"));
    let memories = |count: usize, pages: u32| format!("(memory {pages})").repeat(count);
    for (case, extra) in [
        ("99 memories", memories(99, 1)),
        ("50 memories of 64 MiB", memories(50, 1024)),
        ("one memory of 4 GiB", memories(1, 65_536)),
        ("a table of ten million", "(table 10000000 funcref)".to_owned()),
        ("tables of a million together", "(table 15000 funcref)".repeat(60)),
    ] {
        let error = failure(&provisioner(4, &extra, end)).await;
        let is_refused = error.contains("nothing that can be run here") || error.contains("failed");
        assert!(is_refused && !error.contains("done"), "{case}: {error}");
    }
}

#[tokio::test]
async fn a_guest_that_wants_more_memory_or_tables_than_there_is_is_told_the_limit() {
    let grow_table = "(drop (table.grow $more (ref.null func) (i32.const 30000))) (unreachable)";
    let error = failure(&provisioner(4, "(table $more 1 funcref)", grow_table)).await;
    assert!(error.contains("limit `table-elements`: 20000 elements in all tables together;"), "{error}");
    let grow_memory = "(drop (memory.grow (i32.const 2000))) (unreachable)";
    let error = failure(&provisioner(4, "", grow_memory)).await;
    assert!(error.contains("limit `memory`: 64 MiB in all memories together;"), "{error}");
    let error = failure(&provisioner(2000, "", "(unreachable)")).await;
    assert!(error.contains("limit `memory`: 64 MiB in all memories together;"), "{error}");
    let deeper = "(func $deeper (param i32) (call $deeper (local.get 0)) (call $deeper (local.get 0)))";
    let error = failure(&provisioner(4, deeper, "(call $deeper (i32.const 0)) (unreachable)")).await;
    assert!(error.contains("a stack has 512 KiB, which nothing changes"), "{error}");
    // A trap that has to do with no limit names none.
    let error = failure(&provisioner(4, "", "(unreachable)")).await;
    assert!(error.contains("unreachable") && !error.contains("limit"), "{error}");
}

#[tokio::test]
async fn behind_a_grant_of_wasi_there_is_nothing_and_a_guest_that_sleeps_can_be_ended() {
    let grants = format!("{ALL},wasi:cli,wasi:clocks,wasi:filesystem,wasi:io,wasi:random");
    let end = "(call $fail (i32.const 16) (i32.const 4))";
    let world = |body: &str| {
        let file = File::new(&provisioner(4, "(data (i32.const 32) \"found\")", body));
        (World::new(file.source(), &grants, "s"), file)
    };
    let empty = |function: &str| {
        format!(
            "(call {function} (i32.const 3000))
            (if (i32.load (i32.const 3004)) (then (return (call $fail (i32.const 32) (i32.const 5))))) {end}"
        )
    };
    let random = |bytes: u64| format!("(call $random (i64.const {bytes}) (i32.const 3000)) {end}");
    for (body, is_done) in [
        (empty("$environment"), true),
        (empty("$arguments"), true),
        (empty("$directories"), true),
        (random(16), true),
        (random(2 << 20), false),
    ] {
        let (world, _file) = world(&body);
        let error = world.provision("s").await.map(drop).unwrap_err().to_string();
        assert_eq!(error.contains("done"), is_done, "{body}: {error}");
        assert!(!error.contains("found"), "{body}: {error}");
    }
    // An hour, in nanoseconds.
    let (world, _file) = world(&format!("(call $block (call $after (i64.const 3600000000000))) {end}"));
    world.provisioner.ready().await.unwrap();
    let cancel = CancellationToken::new();
    let provisioning = tokio::time::timeout(world::PATIENCE, world.provisioner.provision("s", cancel.clone()));
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(provisioning, later);
    let error = ended.expect("a guest that sleeps is ended").map(drop).unwrap_err();
    assert!(matches!(error, ProvisionError::Cancelled), "{error:?}");
    assert_eq!(world.left().await, 0);
}

#[test]
fn imports_that_do_not_exist_are_refused_by_name() {
    let package = "mcp-gateway:provisioning";
    let cases = [
        (
            r#"(import "evil:files/read@1.0.0" (instance))"#.to_owned(),
            "imports `evil:files/read@1.0.0`, which this gateway does not offer",
        ),
        (format!(r#"(import "{package}/log@0.2.0" (instance))"#), "log@0.2.0`, which this gateway does not offer"),
        (format!(r#"(import "{package}/cluster-objects@0.1.0" (instance))"#), "--grant cluster-objects"),
        (format!(r#"(import "{package}/template-mapping@0.1.0" (instance))"#), "does not offer"),
        (format!(r#"(import "{package}/everything@0.1.0" (instance))"#), "does not offer"),
        (r#"(import "run" (func))"#.to_owned(), "imports `run`, which this gateway does not offer"),
        (r#"(import "wasi:filesystem/preopens@0.2.6" (instance))"#.to_owned(), "--grant wasi:filesystem"),
        (
            r#"(import "wasi:sockets/tcp@0.2.6" (instance)) (import "wasi:cli/environment@0.2.6" (instance))"#
                .to_owned(),
            "--grant wasi:sockets,wasi:cli",
        ),
        (format!(r#"(import "{package}/log@0.1.0" (instance (export "shout" (func))))"#), "does not fit the contract"),
        (
            format!(r#"(import "{package}/log@0.1.0" (instance (export "log" (func (param "message" string)))))"#),
            "does not fit the contract",
        ),
        (format!(r#"(import "{package}/log@0.1.0" (func))"#), "does not fit the contract"),
        (String::new(), "does not fit the contract"),
    ];
    for (declarations, expected) in cases {
        let error = refusal(&declaring(&declarations));
        assert!(error.contains(expected), "{declarations}: {error}");
    }
}

/// The resolvers take no server: an instance serves one, and there is nothing to name another with.
#[test]
fn a_resolver_that_takes_another_servers_name_does_not_exist() {
    for (interface, function) in [("secret-resolver", "resolve-secrets"), ("config-resolver", "resolve-command")] {
        for (name, parameters) in [(function.to_owned(), r#"(param "server" string)"#), (format!("{function}-of"), "")]
        {
            let error = refusal(&declaring(&format!(
                r#"(import "mcp-gateway:provisioning/{interface}@0.1.0" (instance (export "{name}" (func {parameters}))))"#
            )));
            assert!(error.contains("does not fit the contract") && error.contains(&name), "{error}");
        }
    }
}

#[test]
fn names_without_end_are_cut_in_messages() {
    let long = "a".repeat(90_000);
    refusal(&declaring(&format!(r#"(import "evil:files/{long}@1.0.0" (instance))"#)));
    let many: String = (0..900).map(|n| format!(r#"(import "wasi:x{n}/y@1.0.0" (instance))"#)).collect();
    let error = refusal(&declaring(&many));
    assert!(error.contains("and 880 more"), "{error}");
    let exports: String = (0..900).map(|n| format!(r#"(export "e{n}" (instance $none))"#)).collect();
    let other = wat::parse_str(format!("(component (instance $none) {exports})")).unwrap();
    assert!(refusal(&other).contains("and 880 more"));
}

#[test]
fn a_component_that_unfolds_without_end_is_refused_before_it_is_compiled() {
    let mut text = "(component (component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..=30 {
        let below = level - 1;
        text += &format!(
            "(component $c{level} (alias outer 1 $c{below} (component $x)) (instance (instantiate $x)) (instance (instantiate $x)))"
        );
    }
    let bytes = wat::parse_str(text + "(instance (instantiate $c30)))").unwrap();
    assert!(bytes.len() < 4096);
    assert!(refusal(&bytes).contains("unfolds to more than"));
}

#[test]
fn shapes_that_are_meant_for_the_compiler_are_refused_or_survived() {
    let nested = |levels: usize| format!("{}{}", "(component ".repeat(levels), ")".repeat(levels));
    assert!(refusal(&wat::parse_str(nested(60)).unwrap()).contains("levels deep"));
    let instances = "(core instance (instantiate $m))".repeat(10_000);
    let bytes = wat::parse_str(format!("(component (core module $m) {instances})")).unwrap();
    refusal(&bytes);
    let memories = "(memory 1)".repeat(1000);
    refusal(&wat::parse_str(format!("(component (core module {memories}))")).unwrap());
    let lists: String = (1..2000).map(|n| format!("(type $t{n} (list $t{}))", n - 1)).collect();
    refusal(&wat::parse_str(format!("(component (type $t0 (list u8)) {lists})")).unwrap());
    let blocks = |depth: usize| {
        let nested = format!("{} {}", "block ".repeat(depth), "end ".repeat(depth));
        refusal(&wat::parse_str(format!("(component (core module (func {nested})))")).unwrap())
    };
    assert!(blocks(100_000).contains("blocks are nested"));
    assert!(blocks(9_000).contains("no provisioner"));
    let locals = "(func (local i64 i64 i64 i64 i64 i64 i64 i64))".repeat(20_000);
    refusal(&wat::parse_str(format!("(component (core module {locals}))")).unwrap());
    let passed = r#"(component (import "c" (component)) )"#;
    assert!(refusal(&wat::parse_str(passed).unwrap()).contains("passes components on"));
}

#[test]
fn what_is_too_large_or_no_file_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let large = directory.path().join("large.wasm");
    std::fs::File::create(&large).unwrap().set_len((64 << 20) + 1).unwrap();
    let engine = Engine::new(None).unwrap();
    for (path, expected) in
        [(large, "larger than 64 MiB"), ("/dev/zero".into(), "not a file"), (directory.path().to_owned(), "not a file")]
    {
        let error = Provisioner::load(&engine, &Source::File(path), Grants::default()).map(drop).unwrap_err();
        assert!(matches!(error, LoadError::Read { .. }) && error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_component_that_compiles_for_too_long_is_given_up_once_and_for_all() {
    let (catalog, _) = Catalog::parse(&world::CATALOG.replace("NAME", "s"), "test.yaml".as_ref()).unwrap();
    let entry = catalog.get("s").unwrap().clone();
    let limits = Limits { compile_time: Duration::from_millis(1), ..Limits::default() };
    let _alone = ALONE.lock().await;
    // Never compiled before, so that it is in no cache, and more than a millisecond's work.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let work = format!("(func (param i64) (result i64) (i64.mul (local.get 0) (i64.const {now})))").repeat(20_000);
    let file = File::new(&provisioner(4, &work, "(call $fail (i32.const 16) (i32.const 4))"));
    let world = World::limited(file.source(), ALL, "s", entry, limits);
    for _ in 0..3 {
        let error = world.provision("s").await.map(drop).unwrap_err().to_string();
        assert!(error.contains("was not compiled within"), "{error}");
    }
    assert_eq!(world.left().await, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes that were changed, cut or doubled make a component that loads or an error, and never a panic.
    #[test]
    fn damaged_components_are_errors(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        doubled in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = builtin::DOCKER.to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(place) = doubled {
            let place = place.index(bytes.len());
            bytes.extend_from_within(place..);
        }
        if let Some(place) = cut {
            bytes.truncate(place.index(bytes.len()));
        }
        load(&bytes);
    }

    /// Neither do bytes that were never a component.
    #[test]
    fn arbitrary_bytes_are_errors(body in prop::collection::vec(any::<u8>(), 0..300), header: bool) {
        let mut bytes = if header { b"\0asm\x0d\0\x01\0".to_vec() } else { Vec::new() };
        bytes.extend(body);
        load(&bytes);
    }
}

/// Loads, and knows that a panic of the compiler would have been reported as such.
fn load(bytes: &[u8]) {
    static ENGINE: std::sync::LazyLock<Engine> = std::sync::LazyLock::new(|| Engine::new(None).unwrap());
    let bytes: &'static [u8] = bytes.to_vec().leak();
    let source = Source::BuiltIn { name: "damaged", bytes };
    if let Err(error) = Provisioner::load(&ENGINE, &source, Grants::builtin_docker()) {
        let error = error.to_string();
        assert!(!error.contains("bug in it") && !error.contains(char::is_control), "{error}");
    }
}
