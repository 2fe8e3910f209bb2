//! Attempts to get out, by a confined process: what the self-test runs. Each
//! says whether it was refused; none does lasting harm when it is not.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::kill;
use nix::unistd::{Pid, setuid};

/// The helper's argument for this.
pub(crate) const LIFE: &str = "attempt";
/// The exit code that means "refused"; 0 means that it worked, and any other
/// that the attempt itself went wrong.
pub(crate) const REFUSED: u8 = 77;
/// How long a connection may take, so that a silent drop is a refusal too.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

type Tried = Result<(), Box<dyn std::error::Error>>;

/// `attempt NAME ARGUMENT`.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let [name, argument] = arguments else {
        return ExitCode::FAILURE;
    };
    let attempt: fn(&str) -> Tried = match name.as_str() {
        "read" => read,
        "write" => write,
        "chmod" => chmod,
        "tcp" => tcp,
        "udp" => udp,
        "unix" => unix,
        "abstract" => abstract_unix,
        "signal" => signal,
        "unshare" => new_namespace,
        "mount" => new_mount,
        "setuid" => other_user,
        _ => return ExitCode::FAILURE,
    };
    let mut out = std::io::stdout();
    let (code, said) = match attempt(argument) {
        Ok(()) => (ExitCode::SUCCESS, "worked".to_owned()),
        Err(error) => (ExitCode::from(REFUSED), format!("refused: {error}")),
    };
    // The exit code tells; the words are for a person.
    writeln!(out, "{name}: {said}").unwrap_or_default();
    code
}

fn read(path: &str) -> Tried {
    let mut byte = [0_u8];
    Ok(fs::File::open(path)?.read_exact(&mut byte)?)
}

fn write(path: &str) -> Tried {
    Ok(fs::write(path, "written from the sandbox")?)
}

fn chmod(path: &str) -> Tried {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o777))?)
}

fn tcp(address: &str) -> Tried {
    let address: SocketAddr = address.parse()?;
    TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    Ok(())
}

fn udp(address: &str) -> Tried {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"out", address)?;
    Ok(())
}

fn unix(path: &str) -> Tried {
    UnixStream::connect(Path::new(path))?;
    Ok(())
}

fn abstract_unix(name: &str) -> Tried {
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    UnixStream::connect_addr(&address)?;
    Ok(())
}

fn signal(pid: &str) -> Tried {
    Ok(kill(Pid::from_raw(pid.parse()?), None)?)
}

fn new_namespace(_: &str) -> Tried {
    Ok(unshare(CloneFlags::CLONE_NEWUSER)?)
}

fn new_mount(path: &str) -> Tried {
    Ok(mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
}

fn other_user(uid: &str) -> Tried {
    Ok(setuid(uid.parse::<u32>()?.into())?)
}
