//! What makes life hard for the whole-process tests: small programs that a C compiler makes, a disk
//! in a file that can be taken away, hosts of their own with a network between them that loses
//! packets. Each says why, and gives nothing, where it may not be had.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::common::{Network, wait_until};

/// Says that a test, or a part of it, could not be run.
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
}

/// Where a tool of the system is.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Runs a tool to its end. Err: it is not there, or its words.
pub fn run_tool(words: &[&str]) -> Result<String, String> {
    let (name, arguments) = words.split_first().expect("a tool's name");
    let path = tool(name).ok_or_else(|| format!("there is no {name}"))?;
    let output = Command::new(path).args(arguments).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr))),
    }
}

/// Compiles a C file of this folder.
pub fn compiled(source: &str, flags: &[&str], into: &Path) -> Result<(), String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common").join(source);
    let (file, into) = (file.to_string_lossy(), into.to_string_lossy());
    run_tool(&[&["cc", "-O1", "-o", &into, &file], flags].concat()).map(drop)
}

/// An ext4 in a file, mounted, that can break and be mounted again.
pub struct LoopDisk {
    image: PathBuf,
    pub at: PathBuf,
}

impl LoopDisk {
    pub fn mount(image: &Path, at: &Path, mib: u64) -> Result<LoopDisk, String> {
        File::create(image).and_then(|f| f.set_len(mib << 20)).map_err(|e| e.to_string())?;
        run_tool(&["mkfs.ext4", "-q", "-F", &image.to_string_lossy()])?;
        fs::create_dir_all(at).map_err(|e| e.to_string())?;
        let disk = LoopDisk { image: image.to_path_buf(), at: at.to_path_buf() };
        disk.mount_again()?;
        Ok(disk)
    }

    /// As after an error of the medium: from now on it can be read and not written.
    pub fn break_down(&self) -> Result<(), String> {
        run_tool(&["mount", "-o", "remount,abort", &self.at.to_string_lossy()]).map(drop)
    }

    /// Checks and mounts a disk that nobody uses any more.
    pub fn repair(&self) -> Result<(), String> {
        run_tool(&["umount", &self.at.to_string_lossy()])?;
        self.wait_until_free()?;
        // It says by its code that it repaired something.
        let _ = run_tool(&["e2fsck", "-p", &self.image.to_string_lossy()]);
        self.mount_again()
    }

    /// `ip` has a copy of all mounts while it runs in a namespace. A copy keeps the broken disk alive,
    /// and the next mount would join it.
    fn wait_until_free(&self) -> Result<(), String> {
        let image = self.image.to_string_lossy();
        for _ in 0..200 {
            if run_tool(&["losetup", "-j", &image])?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{image} is still mounted somewhere"))
    }

    fn mount_again(&self) -> Result<(), String> {
        let (image, at) = (self.image.to_string_lossy(), self.at.to_string_lossy());
        run_tool(&["mount", "-o", "loop,errors=remount-ro", &image, &at]).map(drop)
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = run_tool(&["umount", "-l", &self.at.to_string_lossy()]);
    }
}

/// Hosts 1 to n in network namespaces, each joined to a router through which every packet passes a
/// relay that loses some. Host i is 10.77.i.2. Two labs may be there at once, under other names.
pub struct Lab {
    name: String,
    hosts: usize,
    relay: Option<Child>,
    loss: PathBuf,
}

/// The addresses of the hosts.
pub const LAB_IPS: [&str; 6] =
    ["10.77.1.2", "10.77.2.2", "10.77.3.2", "10.77.4.2", "10.77.5.2", "10.77.6.2"];

impl Lab {
    pub fn up(home: &Path, hosts: usize) -> Result<Lab, String> {
        assert!(hosts <= LAB_IPS.len());
        let loss = home.join("loss");
        fs::write(&loss, "0").map_err(|e| e.to_string())?;
        let name = format!("pg{}", std::process::id());
        let mut lab = Lab { name, hosts, relay: None, loss };
        let binary = home.join("relay");
        compiled("relay.c", &[], &binary)?;
        lab.router(&binary, &home.join("relay.out"))?;
        (1..=hosts).try_for_each(|host| lab.host(host))?;
        Ok(lab)
    }

    fn router(&mut self, relay: &Path, out: &Path) -> Result<(), String> {
        let router = self.space(0);
        run_tool(&["ip", "netns", "add", &router])?;
        let inside = |words: &[&str]| run_tool(&[&["ip", "-n", &router], words].concat());
        inside(&["link", "set", "lo", "up"])?;
        sysctl(&router, "net.ipv4.ip_forward=1")?;
        no_filter(&router)?;
        inside(&["tuntap", "add", "relay0", "mode", "tun"])?;
        inside(&["link", "set", "relay0", "mtu", "1500", "txqueuelen", "4000", "up"])?;
        inside(&["route", "add", "default", "dev", "relay0", "table", "100"])?;
        let nsenter = tool("nsenter").ok_or("there is no nsenter")?;
        let said = File::create(out).map_err(|e| e.to_string())?;
        let words = said.try_clone().map_err(|e| e.to_string())?;
        let child = Command::new(nsenter)
            .arg(network_of(&router))
            .arg(relay)
            .args(["relay0"])
            .arg(&self.loss)
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(words)
            .spawn();
        self.relay = Some(child.map_err(|e| e.to_string())?);
        let mut text = String::new();
        for _ in 0..200 {
            text = fs::read_to_string(out).unwrap_or_default();
            if text.contains("ready") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("the relay does not run: {text}"))
    }

    fn host(&self, host: usize) -> Result<(), String> {
        let (space, router, link) = (self.space(host), self.space(0), format!("h{host}"));
        let (near, far) = (format!("10.77.{host}.1"), format!("10.77.{host}.2/24"));
        run_tool(&["ip", "netns", "add", &space])?;
        no_filter(&space)?;
        let pair = ["type", "veth", "peer", "name", &link, "netns", &router];
        run_tool(&[&["ip", "link", "add", "eth0", "netns", &space][..], &pair].concat())?;
        let here = |words: &[&str]| run_tool(&[&["ip", "-n", &space], words].concat());
        let there = |words: &[&str]| run_tool(&[&["ip", "-n", &router], words].concat());
        here(&["link", "set", "lo", "up"])?;
        here(&["addr", "add", &far, "dev", "eth0"])?;
        there(&["addr", "add", &format!("{near}/24"), "dev", &link])?;
        there(&["link", "set", &link, "up"])?;
        here(&["link", "set", "eth0", "up"])?;
        here(&["route", "add", "default", "via", &near])?;
        there(&["rule", "add", "iif", &link, "lookup", "100", "pref", "1000"])?;
        Ok(())
    }

    fn space(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }

    /// The words before a command that is to run in a host.
    pub fn inside(&self, host: usize) -> Vec<String> {
        let nsenter = tool("nsenter").expect("the lab is up").to_string_lossy().into_owned();
        vec![nsenter, network_of(&self.space(host))]
    }

    /// From now on so many packets of a thousand are lost.
    pub fn lose(&self, of_thousand: u32) {
        fs::write(&self.loss, of_thousand.to_string()).expect("a file can be written");
    }

    pub fn cut(&self, host: usize) {
        self.link(host, "down");
    }

    pub fn heal(&self, host: usize) {
        self.link(host, "up");
    }

    fn link(&self, host: usize, state: &str) {
        let words = ["ip", "-n", &self.space(0), "link", "set", &format!("h{host}"), state];
        run_tool(&words).unwrap_or_else(|why| panic!("{why}"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(relay) = &mut self.relay {
            let _ = relay.kill();
            let _ = relay.wait();
        }
        for host in 0..=self.hosts {
            let _ = run_tool(&["ip", "netns", "del", &self.space(host)]);
        }
    }
}

fn sysctl(space: &str, setting: &str) -> Result<(), String> {
    run_tool(&["nsenter", &network_of(space), "sysctl", "-qw", setting]).map(drop)
}

/// Only the network of a namespace. `ip netns exec` would also copy all mounts, and a disk of
/// another test would stay mounted in the copy after it was unmounted.
fn network_of(space: &str) -> String {
    format!("--net=/run/netns/{space}")
}

/// Packets come by another way than the answers go.
fn no_filter(space: &str) -> Result<(), String> {
    sysctl(space, "net.ipv4.conf.all.rp_filter=0")?;
    sysctl(space, "net.ipv4.conf.default.rp_filter=0")
}

/// How many files a process has open.
pub fn open_files(process: u32) -> usize {
    let folder = format!("/proc/{process}/fd");
    let mut count = 0;
    wait_until("a process's /proc", Duration::from_secs(5), || {
        count = fs::read_dir(&folder).map(Iterator::count).unwrap_or(0);
        count > 0
    });
    count
}

/// A clock that is moved by as many seconds as a file says.
pub struct Clock {
    step: PathBuf,
    /// What a process is started under to see it.
    pub dress: Vec<String>,
}

impl Clock {
    pub fn new(network: &Network) -> Result<Clock, String> {
        let (shim, step) = (network.path("clock.so"), network.path("step"));
        compiled("clock.c", &["-shared", "-fPIC", "-ldl"], &shim)?;
        let env = tool("env").ok_or("there is no env")?.to_string_lossy().into_owned();
        let preload = format!("LD_PRELOAD={}", shim.display());
        let clock =
            Clock { dress: vec![env, preload, format!("CLOCK_STEP={}", step.display())], step };
        clock.set(0);
        Ok(clock)
    }

    pub fn set(&self, seconds: i64) {
        fs::write(&self.step, seconds.to_string()).unwrap();
    }
}
