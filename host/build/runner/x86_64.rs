//! System calls of Linux on x86-64.

use core::arch::{asm, global_asm};

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym crate::begin,
);

/// The numbers of the system calls.
pub(crate) mod number {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const SIGPROCMASK: usize = 14;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const FORK: usize = 57;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const SETPGID: usize = 109;
    pub(crate) const SIGTIMEDWAIT: usize = 128;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const PPOLL: usize = 271;
}

/// Makes a system call. Errors are small negative numbers.
pub(crate) unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let [one, two, three, four] = arguments;
    let result: isize;
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") one, in("rsi") two, in("rdx") three, in("r10") four,
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a second process: gives its number, and nought in it.
pub(crate) unsafe fn fork() -> isize {
    unsafe { call(number::FORK, [0; 4]) }
}
