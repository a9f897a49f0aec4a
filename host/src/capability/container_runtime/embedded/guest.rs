//! One running guest: its store, its task and how it ends.
//!
//! A guest runs to completion in a task of its own and is never dropped half-way, because dropping a call in
//! flight has brought down hosts. It is stopped by making it end: its standard input closes, then everything it
//! may wait for gives way and the engine's clock interrupts it.

use std::time::Duration;

use provisioning_core::Resources;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Store, Trap};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::limits::{Memory, Meter, Metered};
use super::pipe::{GuestEnd, Pipe};
use crate::sandbox::engine::Engine;
use crate::sandbox::waiting::{Waiting, make_interruptible};

/// How long a guest has to end by itself after its standard input was closed.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// The name that a guest sees as its own.
const PROGRAM: &str = "server";

/// The exit code of a guest that crashed, as a shell reports an aborted process.
const CRASHED: i64 = 134;

/// The exit code of a guest that was stopped, as a shell reports a killed process.
const STOPPED: i64 = 137;

/// The longest random text a guest may ask for at once, in bytes.
const RANDOM_BYTES: u64 = 1 << 20;

/// How many bytes a guest may hand over in one call.
const CALL_BYTES: usize = 16 << 20;

/// How many things (streams, timers) a guest may hold at once.
const HANDLES: usize = 10_000;

/// What a store holds.
pub(super) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    memory: Memory,
    stop: CancellationToken,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Everything that a guest is given. The files and sockets of WASI are linked, since every compiled program
/// mentions them, but there is no directory to open and no address that may be reached.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine.wasmtime());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    make_interruptible(&mut linker, |state: &mut State| Waiting { table: &mut state.table, stop: &state.stop })?;
    Ok(linker)
}

/// What to run.
pub(super) struct Launch {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) resources: Resources,
}

/// A guest that runs or has ended.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) stdin: Pipe,
    pub(super) stdout: Pipe,
    pub(super) stderr: Pipe,
    stop: CancellationToken,
    exit_code: watch::Receiver<Option<i64>>,
}

impl Guest {
    /// Starts a guest. The receiver tells whether it could be instantiated.
    pub(super) fn spawn(
        engine: &Engine,
        command: CommandPre<State>,
        launch: Launch,
    ) -> (Self, oneshot::Receiver<Result<(), String>>) {
        let (exit, exit_code) = watch::channel(None);
        let (instantiated, is_instantiated) = oneshot::channel();
        let guest = Self {
            stdin: Pipe::default(),
            stdout: Pipe::default(),
            stderr: Pipe::default(),
            stop: CancellationToken::new(),
            exit_code,
        };
        let (this, engine) = (guest.clone(), engine.clone());
        tokio::spawn(async move {
            let code = this.execute(engine, command, launch, instantiated).await;
            this.stdin.close_reader();
            this.stdout.close_writer();
            this.stderr.close_writer();
            exit.send_replace(Some(code));
        });
        (guest, is_instantiated)
    }

    /// Waits until the guest has ended.
    pub(super) async fn ended(&self) -> i64 {
        let mut exit_code = self.exit_code.clone();
        match exit_code.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(STOPPED),
            // The task is gone without a word, with the whole runtime.
            Err(_) => STOPPED,
        }
    }

    /// Ends the guest: politely for [`GRACE`], then by force.
    pub(super) async fn stop(self) {
        self.stdin.close_writer();
        if tokio::time::timeout(GRACE, self.ended()).await.is_err() {
            self.stop.cancel();
            for pipe in [&self.stdin, &self.stdout, &self.stderr] {
                pipe.close_writer();
                pipe.close_reader();
            }
            self.ended().await;
        }
    }

    async fn execute(
        &self,
        engine: Engine,
        command: CommandPre<State>,
        launch: Launch,
        instantiated: oneshot::Sender<Result<(), String>>,
    ) -> i64 {
        let mut store = self.store(&engine, &launch);
        let meter = Meter::default();
        let (ticker, stop, resources) = (meter.clone(), self.stop.clone(), launch.resources);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| Ok(ticker.tick(resources, &stop)));
        let run = async {
            let command = match command.instantiate_async(&mut store).await {
                Ok(command) => command,
                Err(error) => {
                    let remark = store.data().memory.remark();
                    let _ = instantiated.send(Err(remark.unwrap_or_else(|| format!("{:#}", error.root_cause()))));
                    return Ok(Err(()));
                }
            };
            let _ = instantiated.send(Ok(()));
            command.wasi_cli_run().call_run(&mut store).await
        };
        let ended = Metered::new(run, engine, meter).await;
        let (code, crash) = match ended {
            Ok(Ok(())) => (0, None),
            Ok(Err(())) => (1, None),
            Err(error) => match (error.downcast_ref::<I32Exit>(), error.downcast_ref::<Trap>()) {
                (Some(I32Exit(code)), _) => (i64::from(*code), None),
                _ if self.stop.is_cancelled() => (STOPPED, None),
                (_, Some(trap)) => (CRASHED, Some(trap.to_string())),
                _ => (CRASHED, Some(error.root_cause().to_string())),
            },
        };
        // A program that is refused memory ends in many ways, and none says why.
        let remark = if code == 0 { None } else { store.data().memory.remark() };
        if let Some(reason) = crash {
            self.stderr.append(&format!("the server crashed: {reason}\n"));
        }
        if let Some(remark) = remark {
            self.stderr.append(&format!("the server failed after {remark}\n"));
        }
        code
    }

    fn store(&self, engine: &Engine, launch: &Launch) -> Store<State> {
        let mut wasi = WasiCtx::builder();
        wasi.stdin(GuestEnd(self.stdin.clone()))
            .stdout(GuestEnd(self.stdout.clone()))
            .stderr(GuestEnd(self.stderr.clone()))
            .envs(&launch.environment)
            .arg(PROGRAM)
            .args(&launch.arguments)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let state = State {
            wasi: wasi.build(),
            table,
            memory: Memory::new(launch.resources.memory_bytes),
            stop: self.stop.clone(),
        };
        let mut store = Store::new(engine.wasmtime(), state);
        store.set_hostcall_fuel(CALL_BYTES);
        store.limiter(|state| &mut state.memory);
        store
    }
}
