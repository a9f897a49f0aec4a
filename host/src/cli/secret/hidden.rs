//! Asking for a text that is not to be seen.

use std::io;

use zeroize::Zeroizing;

/// Asks at the terminal. What is typed is hidden from before the question is there, also what is typed too early.
pub(super) fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    #[cfg(unix)]
    let _silence = silence::Silence::begin()?;
    rpassword::prompt_password(question).map(Zeroizing::new)
}

#[cfg(unix)]
mod silence {
    use std::fs::File;
    use std::io;

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

    /// A terminal that does not show what is typed, until this is dropped.
    pub(super) struct Silence {
        terminal: File,
        before: Termios,
    }

    impl Silence {
        pub(super) fn begin() -> io::Result<Self> {
            let terminal = File::options().read(true).write(true).open("/dev/tty")?;
            let before = tcgetattr(&terminal)?;
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&terminal, OptionalActions::Now, &silent)?;
            Ok(Self { terminal, before })
        }
    }

    impl Drop for Silence {
        fn drop(&mut self) {
            // If it fails there is nobody left to tell.
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        }
    }
}
