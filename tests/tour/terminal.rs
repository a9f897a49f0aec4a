//! A real terminal: the master's side of a pseudo-terminal, with a program on the other.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Runs a program on a terminal of so many columns and rows. When it has shown the first part of an answer, the second
/// is typed. Returns all that the terminal showed, and the exit code.
pub(crate) fn run(mut command: Command, (columns, rows): (u16, u16), answers: &[(&str, &str)]) -> (String, i32) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let side = File::options().read(true).write(true).open(OsStr::from_bytes(name.to_bytes())).unwrap();
    command.stdin(side.try_clone().unwrap()).stdout(side.try_clone().unwrap()).stderr(side);
    let mut child = command.spawn().unwrap();
    // Holds the program's side open, too; reading would never end.
    drop(command);
    let mut master = File::from(master);
    let mut answers = answers.iter();
    let mut waiting = answers.next();
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    // A terminal whose program is gone is an error to read from.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
        if let Some((prompt, answer)) = waiting
            && String::from_utf8_lossy(&shown).contains(prompt)
        {
            master.write_all(answer.as_bytes()).unwrap();
            waiting = answers.next();
        }
    }
    assert!(waiting.is_none(), "was not asked: {}", String::from_utf8_lossy(&shown));
    (String::from_utf8(shown).unwrap(), child.wait().unwrap().code().unwrap())
}
