//! The largest UDP payload that is worth probing a path for.

use std::net::IpAddr;

/// Ethernet's MTU, where the system does not tell.
const ETHERNET_BYTES: u64 = 1500;
/// IPv6 and UDP headers.
const HEADER_BYTES: u64 = 48;
/// What a UDP datagram over IPv4 can carry.
const PAYLOAD_MAX: u64 = 65_507;

/// From the MTUs of this machine's interfaces: the loopback's if only that is used, else the
/// largest, since a path is probed before it is trusted anyway.
pub(crate) fn largest(bind: IpAddr) -> u16 {
    let mtus = interface_mtus();
    let loopback = mtus.iter().filter(|(name, _)| name == "lo").map(|(_, mtu)| *mtu).max();
    let any = mtus.iter().map(|(_, mtu)| *mtu).max();
    let mtu = if bind.is_loopback() { loopback } else { any }.unwrap_or(ETHERNET_BYTES);
    let payload = mtu.saturating_sub(HEADER_BYTES).clamp(1200, PAYLOAD_MAX);
    u16::try_from(payload).expect("clamped")
}

#[cfg(target_os = "linux")]
fn interface_mtus() -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mtu = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path().join("mtu")).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), text.trim().parse().ok()?))
    };
    entries.flatten().filter_map(mtu).collect()
}

#[cfg(not(target_os = "linux"))]
fn interface_mtus() -> Vec<(String, u64)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_probed_for_fits_a_datagram() {
        for bind in ["127.0.0.1", "0.0.0.0", "::1"] {
            let payload = largest(bind.parse().unwrap());
            assert!((1200..=65_507).contains(&payload));
        }
    }
}
