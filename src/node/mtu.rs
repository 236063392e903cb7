//! The largest UDP payload that is worth probing a path for.

/// Ethernet's MTU, where the system does not tell.
const ETHERNET_BYTES: u64 = 1500;
/// IPv6 and UDP headers.
const HEADER_BYTES: u64 = 48;
/// What a UDP datagram over IPv4 can carry.
const PAYLOAD_MAX: u64 = 65_507;

/// From the MTUs of this machine's interfaces: towards other machines, and towards itself. A path
/// is probed before it is trusted, so the first is the largest of all.
pub(crate) fn largest() -> (u16, u16) {
    let (near, far): (Vec<_>, Vec<_>) =
        interface_mtus().into_iter().partition(|(name, _)| name == "lo");
    let most = |mtus: Vec<(String, u64)>| mtus.into_iter().map(|(_, mtu)| mtu).max();
    (payload(most(far)), payload(most(near)))
}

fn payload(mtu: Option<u64>) -> u16 {
    let bytes = mtu.unwrap_or(ETHERNET_BYTES).saturating_sub(HEADER_BYTES).clamp(1200, PAYLOAD_MAX);
    u16::try_from(bytes).expect("clamped")
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
        let (far, near) = largest();
        assert!((1200..=65_507).contains(&far) && (1200..=65_507).contains(&near));
        assert_eq!(payload(None), 1452);
        assert_eq!(payload(Some(9000)), 8952);
        assert_eq!(payload(Some(65_536)), 65_488);
    }
}
