//! The program that starts a tool in a pod: it waits until the gateway listens, runs the tool, and reports how it ended.
//!
//! It is the first process of the container. It reads sixteen bytes from standard input, which come when the gateway is
//! attached, so that no output is lost. Then it runs its arguments as a program, without any shell, with the rest of
//! standard input and with the container's own standard output and error. When that program has ended it ends whatever
//! the program left running, and writes the sixteen bytes and the exit code (four bytes, the least significant first) to
//! both streams: whoever has read both has read everything. A cluster tells how a container ended only seconds later.
//!
//! As the first process it also does what Docker's init does: it passes signals on and buries the dead.
//!
//! No library stands behind it, so that it is a few kilobytes, needs nothing of the image, and builds wherever Rust does.

#![no_std]
#![no_main]
// Nothing provides the functions that the compiler would make of loops.
#![no_builtins]

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod system;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod system;

use system::{call, number};

const NONCE: usize = 16;
const REPORT: usize = NONCE + 4;

const STDIN: usize = 0;
const STDOUT: usize = 1;
const STDERR: usize = 2;

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const SIGKILL: usize = 9;
const SIGCHLD: usize = 17;
const WNOHANG: usize = 1;
const POLLOUT: u64 = 4;

const ENOENT: isize = -2;
const EINTR: isize = -4;
const EAGAIN: isize = -11;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;

/// What a program is told that could not be run, as by a shell.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// Nobody listened, or there is nothing to run.
const NOT_STARTED: i32 = 125;

const PATH_BYTES: usize = 4096;
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";

/// A text that ends with a zero byte.
type Text = *const u8;

/// Where the kernel begins, through `_start`: the stack holds the number of arguments, the arguments, a null, the
/// environment and a null.
#[unsafe(no_mangle)]
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    unsafe {
        let count = *stack;
        let arguments = stack.add(1).cast::<Text>();
        let environment = arguments.add(count + 1);
        if count < 2 {
            exit(NOT_STARTED);
        }
        let mut report = [0_u8; REPORT];
        if !read_nonce(report.as_mut_ptr()) {
            exit(NOT_STARTED);
        }
        let all: u64 = !0;
        let mut before: u64 = 0;
        call(number::SIGPROCMASK, [SIG_BLOCK, address(&all), address_mut(&mut before), 8]);
        let child = system::fork();
        if child == 0 {
            call(number::SETPGID, [0, 0, 0, 0]);
            call(number::SIGPROCMASK, [SIG_SETMASK, address(&before), 0, 8]);
            execute(arguments.add(1), environment);
        }
        if child < 0 {
            complain(*arguments.add(1), b"no process can be made\n\0".as_ptr());
            exit(NOT_STARTED);
        }
        // The rest of the input is the program's alone.
        call(number::CLOSE, [STDIN, 0, 0, 0]);
        let code = watch_over(child, &all);
        if call(number::GETPID, [0; 4]) == 1 {
            bury_the_rest();
        }
        let mut index = 0;
        while index < 4 {
            *report.as_mut_ptr().add(NONCE + index) = (code >> (8 * index)) as u8;
            index += 1;
        }
        write_all(STDOUT, report.as_ptr(), REPORT);
        write_all(STDERR, report.as_ptr(), REPORT);
        exit(code)
    }
}

/// Reads what says that the gateway listens. False if it never will.
unsafe fn read_nonce(buffer: *mut u8) -> bool {
    let mut have = 0;
    while have < NONCE {
        let count = unsafe { call(number::READ, [STDIN, buffer.add(have) as usize, NONCE - have, 0]) };
        if count > 0 {
            have += count as usize;
        } else if count != EINTR {
            return false;
        }
    }
    true
}

/// Passes signals on until the program has ended. Gives its exit code, as a shell has it.
unsafe fn watch_over(child: isize, all: &u64) -> i32 {
    loop {
        let signal = unsafe { call(number::SIGTIMEDWAIT, [address(all), 0, 0, 8]) };
        if signal == SIGCHLD as isize {
            let mut status: i32 = 0;
            loop {
                let dead = unsafe { call(number::WAIT4, [!0, address_mut(&mut status), WNOHANG, 0]) };
                if dead == child {
                    let signal = status & 0x7f;
                    return if signal == 0 { (status >> 8) & 0xff } else { 128 + signal };
                }
                if dead <= 0 {
                    break;
                }
            }
        } else if signal > 0 {
            unsafe { call(number::KILL, [child as usize, signal as usize, 0, 0]) };
        }
    }
}

/// Ends all other processes of the container and waits for them, so that nothing is written after the report.
unsafe fn bury_the_rest() {
    unsafe {
        call(number::KILL, [!0, SIGKILL, 0, 0]);
        loop {
            let dead = call(number::WAIT4, [!0, 0, 0, 0]);
            if dead <= 0 && dead != EINTR {
                return;
            }
        }
    }
}

/// Becomes the program, which is looked for like a shell looks for it.
unsafe fn execute(arguments: *const Text, environment: *const Text) -> ! {
    unsafe {
        let program = *arguments;
        let mut error = ENOENT;
        if has_slash(program) {
            error = call(number::EXECVE, [program as usize, arguments as usize, environment as usize, 0]);
        } else if *program != 0 {
            let mut path = path_of(environment);
            let mut candidate = [0_u8; PATH_BYTES];
            loop {
                let (next, fits) = join(candidate.as_mut_ptr(), path, program);
                if fits {
                    let found = candidate.as_ptr() as usize;
                    let tried = call(number::EXECVE, [found, arguments as usize, environment as usize, 0]);
                    // What is there and cannot be run says more than what is not there.
                    if tried != ENOENT && tried != ENOTDIR {
                        error = tried;
                        if tried != EACCES {
                            break;
                        }
                    }
                }
                if next.is_null() {
                    break;
                }
                path = next;
            }
        }
        let (reason, code): (&[u8], i32) = match error {
            ENOENT | ENOTDIR => (b"no such file or directory\n\0", NOT_FOUND),
            EACCES => (b"permission denied\n\0", NOT_EXECUTABLE),
            _ => (b"it cannot be executed on this system\n\0", NOT_EXECUTABLE),
        };
        complain(program, reason.as_ptr());
        exit(code)
    }
}

/// Puts a directory of the search path and the program together. Gives the rest of the path, if there is one, and
/// whether it fitted.
unsafe fn join(buffer: *mut u8, path: Text, program: Text) -> (Text, bool) {
    unsafe {
        let (mut length, mut at) = (0, path);
        while *at != 0 && *at != b':' {
            if length < PATH_BYTES {
                *buffer.add(length) = *at;
            }
            length += 1;
            at = at.add(1);
        }
        let next = if *at == 0 { core::ptr::null() } else { at.add(1) };
        if length > 0 {
            if length < PATH_BYTES {
                *buffer.add(length) = b'/';
            }
            length += 1;
        }
        let mut letter = program;
        while *letter != 0 {
            if length < PATH_BYTES {
                *buffer.add(length) = *letter;
            }
            length += 1;
            letter = letter.add(1);
        }
        if length < PATH_BYTES {
            *buffer.add(length) = 0;
        }
        (next, length < PATH_BYTES)
    }
}

unsafe fn path_of(environment: *const Text) -> Text {
    unsafe {
        let mut at = environment;
        while !(*at).is_null() {
            let entry = *at;
            let mut index = 0;
            let name = b"PATH=";
            while index < name.len() && *entry.add(index) == *name.as_ptr().add(index) {
                index += 1;
            }
            if index == name.len() {
                return entry.add(index);
            }
            at = at.add(1);
        }
        DEFAULT_PATH.as_ptr()
    }
}

unsafe fn has_slash(text: Text) -> bool {
    unsafe {
        let mut at = text;
        while *at != 0 {
            if *at == b'/' {
                return true;
            }
            at = at.add(1);
        }
        false
    }
}

/// Says on standard error that a program cannot be run.
unsafe fn complain(program: Text, reason: Text) {
    unsafe {
        write_text(b"cannot run `\0".as_ptr());
        write_text(program);
        write_text(b"`: \0".as_ptr());
        write_text(reason);
    }
}

unsafe fn write_text(text: Text) {
    unsafe {
        let mut length = 0;
        while *text.add(length) != 0 {
            length += 1;
        }
        write_all(STDERR, text, length);
    }
}

/// Writes all bytes, or gives up when nobody reads any more.
unsafe fn write_all(stream: usize, bytes: *const u8, length: usize) {
    let mut done = 0;
    while done < length {
        let count = unsafe { call(number::WRITE, [stream, bytes.add(done) as usize, length - done, 0]) };
        if count > 0 {
            done += count as usize;
        } else if count == EAGAIN {
            // The program made the pipe non-blocking, and it is full.
            let poll: u64 = stream as u64 | POLLOUT << 32;
            unsafe { call(number::PPOLL, [address(&poll), 1, 0, 0]) };
        } else if count != EINTR {
            return;
        }
    }
}

fn exit(code: i32) -> ! {
    loop {
        // SAFETY: the call takes no memory and does not return.
        unsafe { call(number::EXIT_GROUP, [code as usize, 0, 0, 0]) };
    }
}

fn address<T>(value: &T) -> usize {
    core::ptr::from_ref(value) as usize
}

fn address_mut<T>(value: &mut T) -> usize {
    core::ptr::from_mut(value) as usize
}

/// What the compiler calls to fill memory.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(target: *mut u8, byte: i32, length: usize) -> *mut u8 {
    let mut index = 0;
    while index < length {
        unsafe { *target.add(index) = byte as u8 };
        index += 1;
    }
    target
}

/// What the compiler calls to copy memory.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(target: *mut u8, source: *const u8, length: usize) -> *mut u8 {
    let mut index = 0;
    while index < length {
        unsafe { *target.add(index) = *source.add(index) };
        index += 1;
    }
    target
}

/// Nothing here panics.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(NOT_STARTED)
}
