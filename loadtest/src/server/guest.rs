//! Creates a user without any role, for attacks on a server that this program starts.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Server, System};

const NAME: &str = "guest";
const PASSWORD: &[u8] = b"a-guest-has-no-role\n";

impl Server {
    /// Creates the user by the program's own commands, and issues a token. The server applies the change within
    /// seconds.
    ///
    /// # Errors
    /// Fails if the server is not hydrant, or if a command fails.
    pub fn guest_token(&self) -> Result<String> {
        self.command(&["users", "add", NAME, "--password-stdin"], PASSWORD)?;
        self.command(&["token", "issue", NAME, "--ttl", "1d"], b"")
    }

    /// Runs a command of the program on the server's data directory; returns its output.
    fn command(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        ensure!(self.launch.system == System::Hydrant, "only hydrant has users");
        let mut command = Command::new(&self.launch.program);
        command.args(arguments).arg("--data-dir").arg(self.data.path().join("data"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe was asked for")?.write_all(input)?;
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} fails: {}", arguments.join(" "), errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
