//! What looking at a component costs before anybody trusts it: the built-in one, and one of 10 MiB.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use docker_mcp::builtin;
use docker_mcp::inspect::inspect;

use super::Effort;
use super::report::{Series, end, milliseconds, row, title, verdict};

/// How large the large one is.
const SIZE: usize = 10 << 20;

pub(crate) fn measure(effort: Effort) -> anyhow::Result<()> {
    let large = large();
    ensure!(large.len() >= SIZE, "the large component has {} bytes", large.len());
    let (mut small_times, mut large_times) = (Series::default(), Series::default());
    for _ in 0..effort.samples(30) {
        for (bytes, times) in [(builtin::DOCKER, &mut small_times), (large.as_slice(), &mut large_times)] {
            let started = Instant::now();
            let inspection = inspect(bytes).context("inspect")?;
            times.push(started.elapsed());
            ensure!(inspection.worlds.iter().any(|fit| fit.fits), "it should be a provisioner");
        }
    }
    title("inspect: reading what a component could reach, with its digest, types and worlds");
    row("the built-in provisioner", &small_times, "");
    row("10 MiB: half of it code, half of it data", &large_times, "");
    verdict("10 MiB, p50", milliseconds(large_times.percentile(50)), 1000.0, "ms");
    end();
    Ok(())
}

/// The built-in provisioner with one more module in it, which nobody runs and everybody has to read.
fn large() -> Vec<u8> {
    // `(module (type (func (result i32))) (func …)* (memory 200) (data …))`.
    let body = {
        let mut body = vec![0]; // no locals
        for number in 0_u8..60 {
            // i32.const N, i32.const N, i32.add, drop
            body.extend([0x41, number, 0x41, number, 0x6a, 0x1a]);
        }
        body.extend([0x41, 0, 0x0b]); // i32.const 0, end
        body
    };
    let functions = SIZE / 2 / body.len() + 1;
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 0, 1, 0x7f]);
    let mut types = number(functions);
    types.resize(types.len() + functions, 0);
    section(&mut module, 3, &types);
    section(&mut module, 5, &[1, 0, 200, 1]);
    let mut code = number(functions);
    for _ in 0..functions {
        code.extend(number(body.len()));
        code.extend(&body);
    }
    section(&mut module, 10, &code);
    // One active segment at the beginning of the memory.
    let mut data = vec![1, 0, 0x41, 0, 0x0b];
    data.extend(number(SIZE / 2));
    data.resize(data.len() + SIZE / 2, b'x');
    section(&mut module, 11, &data);

    let mut component = builtin::DOCKER.to_vec();
    section(&mut component, 1, &module);
    component
}

fn section(to: &mut Vec<u8>, id: u8, content: &[u8]) {
    to.push(id);
    to.extend(number(content.len()));
    to.extend(content);
}

/// A number as WebAssembly writes it (LEB128).
fn number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
