//! Without root and with a small memlock limit: both back ends work, and pools that may not be
//! registered are simply not.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use pangea_base::PagePool;
use pangea_base::file::FileValue;
use pangea_reactor::{DriverChoice, Steer, bind};

use crate::support::{Node, on_both, page_of};

on_both!(the_unprivileged_do_everything_that_root_does);

const NOBODY: u32 = 65534;
const MEMLOCK_BYTES: u64 = 8 << 20;

fn the_unprivileged_do_everything_that_root_does(choice: DriverChoice) {
    // SAFETY: no arguments, no memory.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: only root can become nobody; every other test ran unprivileged");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = dir.path().join("conformance");
    // By a process of its own: what this one has open for writing, the children of tests beside this
    // one hold until they are replaced, and the system does not start a program held so (ETXTBSY).
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();

    let mut command = Command::new(&program);
    command
        .args(["--exact", "unprivileged::as_nobody", "--ignored", "--nocapture"])
        .env("PANGEA_DRIVER", crate::support::name_of(choice))
        .env("TMPDIR", &home)
        .current_dir(&home);
    // SAFETY: only system calls between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: MEMLOCK_BYTES, rlim_max: MEMLOCK_BYTES };
            match libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) == 0
                && libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(NOBODY) == 0
                && libc::setuid(NOBODY) == 0
            {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let text = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by the two tests above, as nobody"]
fn as_nobody() {
    let choice = crate::support::choice_of_child();
    // SAFETY: no arguments, no memory.
    assert_eq!(unsafe { libc::geteuid() }, NOBODY);
    let bound = bind("127.0.0.1:0".parse().unwrap(), 2, Steer::Kernel).unwrap();
    assert_eq!(bound.steer, Steer::Kernel, "steering needs no rights");
    drop(bound);

    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::in_dir(choice, dir.path());
    // Over the limit it is not registered, and keeps its right to give memory back; below it is.
    let large = PagePool::new(65536, 2 * (MEMLOCK_BYTES / 65536) as u32);
    node.driver.register(&large);
    assert!(!node.driver.caps().registered);
    let small = PagePool::new(65536, 16);
    node.driver.register(&small);
    assert_eq!(node.driver.caps().registered, choice == DriverChoice::Uring);

    let file = crate::files::create(&mut node, "store/x");
    for pool in [&large, &small] {
        let done = node.write(file, 0, page_of(pool, 5, 65536));
        assert_eq!(done.result, Ok(FileValue::Bytes(65536)));
        let page = node.read(file, 0, pool.take().unwrap(), 65536).page.unwrap();
        assert!(page.iter().all(|&b| b == 5));
    }
    let to = node.addr;
    node.send(to, b"as nobody");
    node.until("the datagram", |node| !node.datagrams.is_empty());
}

/// A container's seccomp filter forbids io_uring_setup: the node runs all the same, and says why.
#[test]
fn a_sandbox_without_io_uring_gets_mio_and_is_told_why() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "unprivileged::in_a_sandbox", "--ignored", "--nocapture"]);
    // SAFETY: only system calls between fork and exec.
    unsafe { command.pre_exec(forbid_io_uring) };
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn forbid_io_uring() -> std::io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the system call's number
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the filter during the call.
    let forbidden = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    if forbidden { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
#[ignore = "run by the test above, in a sandbox"]
fn in_a_sandbox() {
    let mut node = Node::new(DriverChoice::Auto);
    assert_eq!(node.driver.kind(), pangea_reactor::DriverKind::Mio);
    if cfg!(feature = "uring") {
        assert!(node.driver.why().contains("forbidden"), "{}", node.driver.why());
    }
    let to = node.addr;
    node.send(to, b"all the same");
    node.until("the datagram", |node| !node.datagrams.is_empty());
}
