//! System calls of Linux on 64-bit ARM.

use core::arch::{asm, global_asm};

global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym crate::begin,
);

/// The numbers of the system calls.
pub(crate) mod number {
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const PPOLL: usize = 73;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const KILL: usize = 129;
    pub(crate) const SIGPROCMASK: usize = 135;
    pub(crate) const SIGTIMEDWAIT: usize = 137;
    pub(crate) const SETPGID: usize = 154;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const WAIT4: usize = 260;
}

/// Makes a system call. Errors are small negative numbers.
pub(crate) unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [one, two, three, four] = arguments;
    let result: isize;
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") one as isize => result,
            in("x1") two, in("x2") three, in("x3") four, in("x4") 0,
            options(nostack),
        );
    }
    result
}

/// Makes a second process: gives its number, and nought in it.
pub(crate) unsafe fn fork() -> isize {
    // With nothing shared, and a signal at its end.
    const SIGCHLD: usize = 17;
    unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0]) }
}
