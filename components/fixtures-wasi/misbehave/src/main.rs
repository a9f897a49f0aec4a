//! A WASI command that behaves as its first argument says: what tests need a guest to do, good and bad.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its streams are what the tests look at")]

use std::io::{BufRead, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let number = rest.first().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    match mode.as_str() {
        "echo" => echo(),
        "arguments" => rest.iter().for_each(|argument| println!("{argument}")),
        "environment" => std::env::vars().for_each(|(name, value)| println!("{name}={value}")),
        "variable" => print!("{}", std::env::var(rest.first().map_or("", String::as_str)).unwrap_or_default()),
        "name" => println!("{}", std::env::args().next().unwrap_or_default()),
        "exit" => return ExitCode::from(u8::try_from(number).unwrap_or(255)),
        "both" => {
            println!("to stdout");
            eprintln!("to stderr");
        }
        "flood" => flood(number),
        "spin" => loop {
            std::hint::black_box(0);
        },
        "count" => count(Duration::from_millis(number)),
        "allocate" => allocate(number),
        "sleep" => wait(Duration::from_secs(number)),
        "ignore-stdin" => {
            println!("ready");
            wait(Duration::from_secs(3600));
        }
        "trap" => std::process::abort(),
        "files" => println!("{}", if std::fs::read_dir("/").is_ok() { "has files" } else { "no files" }),
        "network" => match std::net::TcpStream::connect("127.0.0.1:1") {
            Ok(_) => println!("connected"),
            Err(error) => println!("{:?}", error.kind()),
        },
        other => {
            eprintln!("unknown mode `{other}`");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Repeats its input line by line until it ends.
fn echo() {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        println!("{line}");
    }
}

/// Writes so many bytes to each stream.
fn flood(bytes: u64) {
    let zeros = std::io::repeat(b'x').take(bytes);
    let copied = std::io::copy(&mut { zeros }, &mut std::io::stdout().lock());
    let also = std::io::copy(&mut std::io::repeat(b'y').take(bytes), &mut std::io::stderr().lock());
    if copied.is_err() || also.is_err() || std::io::stdout().flush().is_err() {
        std::process::abort();
    }
}

/// Works for so long by the clock and writes how many rounds it got done.
fn count(time: Duration) {
    let end = Instant::now() + time;
    let mut rounds = 0_u64;
    while Instant::now() < end {
        for round in 0..1000_u64 {
            std::hint::black_box(round);
        }
        rounds += 1;
    }
    println!("{rounds}");
}

/// Holds so many MiB.
fn allocate(mebibytes: u64) {
    let mut held = Vec::new();
    for _ in 0..mebibytes {
        held.push(vec![1_u8; 1 << 20]);
    }
    println!("{}", held.len());
}

#[allow(clippy::disallowed_methods, reason = "waiting is what this fixture is for")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
