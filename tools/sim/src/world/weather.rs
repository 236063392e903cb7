//! What a seed decides before anything happens: who is there, what they are made of, and how bad
//! the weather may become. Each seed draws its own ceilings, so that some worlds are calm in one
//! respect and savage in another.

use std::time::Duration;

use pangea_base::{Code, Entropy};
use pangea_ces::plan::CompressionChoice;
use pangea_transport::Limits;

use super::clocks::Clocks;
use super::disk::Character;
use super::machine::Setup;
use super::network::{Path, Place};
use super::planted::Plant;
use super::survey::{LARGE, LARGE_MOST};

/// What the world does to somebody, now and then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    Kill,
    PowerCut,
    CutAtReceipt,
    Close,
    Move,
    Reformat,
    Isolate,
    Halve,
    OneWay,
    Storm,
    Clog,
    SlowDisk,
    FullDisk,
    ReadErrors,
    WriteErrors,
    SmallMtu,
    Stall,
    ClockStep,
    ClockJump,
    Hog,
    Rebind,
    Roam,
    KillOrigin,
}

impl Fault {
    pub const ALL: [Fault; 23] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::CutAtReceipt,
        Fault::Close,
        Fault::Move,
        Fault::Reformat,
        Fault::Isolate,
        Fault::Halve,
        Fault::OneWay,
        Fault::Storm,
        Fault::Clog,
        Fault::SlowDisk,
        Fault::FullDisk,
        Fault::ReadErrors,
        Fault::WriteErrors,
        Fault::SmallMtu,
        Fault::Stall,
        Fault::ClockStep,
        Fault::ClockJump,
        Fault::Hog,
        Fault::Rebind,
        Fault::Roam,
        Fault::KillOrigin,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "process killed",
            Fault::PowerCut => "power cut",
            Fault::CutAtReceipt => "power cut behind a receipt",
            Fault::Close => "closed and started",
            Fault::Move => "came back elsewhere",
            Fault::Reformat => "reformatted",
            Fault::Isolate => "isolated",
            Fault::Halve => "network halved",
            Fault::OneWay => "one-way partition",
            Fault::Storm => "storm at one place",
            Fault::Clog => "clogged",
            Fault::SlowDisk => "slow disk",
            Fault::FullDisk => "full disk",
            Fault::ReadErrors => "reads fail for a while",
            Fault::WriteErrors => "writes fail for a while",
            Fault::SmallMtu => "MTU black hole",
            Fault::Stall => "core stalled",
            Fault::ClockStep => "wall clock set",
            Fault::ClockJump => "wall clock jumps",
            Fault::Hog => "pages refused",
            Fault::Rebind => "address changed",
            Fault::Roam => "moved to another network",
            Fault::KillOrigin => "origin killed",
        }
    }

    /// Whether a holder that meets it may be as good as gone for a while.
    pub fn hurts(self) -> bool {
        !matches!(
            self,
            Fault::Stall
                | Fault::ClockStep
                | Fault::ClockJump
                | Fault::Hog
                | Fault::Rebind
                | Fault::Roam
                | Fault::KillOrigin
        )
    }
}

/// What a seed decided.
pub struct Weather {
    pub holders: usize,
    pub origins: usize,
    pub enemies: usize,
    /// Holders whose disks lie, of those that the law leaves.
    pub liars: usize,
    /// No chunk is hurt beyond what its code survives.
    pub is_lawful: bool,
    pub path: Path,
    pub faults: Vec<Fault>,
    /// The mean time between two.
    pub every: Duration,
    pub code: Option<Code>,
    pub budget: u64,
    pub compression: CompressionChoice,
    /// Parts per million.
    pub drift: i64,
    pub object_bytes: u64,
    pub pause: Duration,
    pub tiny: Tiny,
    pub disk_micros: u64,
    pub clocks: Clocks,
    /// Of the holders, the first so many are machines with very many cores.
    pub large: usize,
    /// A Squatter comes, whoever else does.
    pub squatter: bool,
    /// Some objects are kept for minutes only, and at the end everybody stands still for a day.
    pub idles: bool,
}

/// Limits that are as small as they may be, each in some seeds.
#[derive(Clone, Copy, Debug)]
pub struct Tiny {
    pub mesh: bool,
    pub pages: bool,
    pub windows: bool,
    pub journal: bool,
}

impl Weather {
    /// How many machines a put may do without.
    pub fn tolerance(&self) -> usize {
        tolerance(self.code, self.holders)
    }

    /// Draws it.
    pub fn draw(chance: &mut Entropy) -> Weather {
        let is_lawful = chance.below(4) != 0;
        let most = if chance.below(4) == 0 { 16 } else { 7 };
        let holders = 3 + chance.below(most) as usize;
        let calm = chance.below(3) == 0;
        let code = draw_code(chance, holders);
        let spare = tolerance(code, holders);
        let enemies = if chance.below(2) == 0 { chance.below(4) as usize } else { 0 };
        let liars = if chance.below(3) == 0 { spare.min(1) } else { 0 };
        let liars = if is_lawful { liars } else { chance.below(3) as usize };
        let mut faults: Vec<Fault> =
            Fault::ALL.into_iter().filter(|_| chance.below(2) == 0).collect();
        faults.retain(|fault| *fault != Fault::ClockJump);
        faults.extend([Fault::Kill, Fault::PowerCut, Fault::CutAtReceipt]);
        let weather = Weather {
            holders,
            origins: 1 + chance.below(3) as usize,
            enemies,
            liars,
            is_lawful,
            path: draw_path(chance, calm),
            faults,
            every: Duration::from_secs(5 + chance.below(25)),
            code,
            budget: [16 << 20, 24 << 20, 48 << 20][chance.below(3) as usize]
                .max(least_budget(code)),
            compression: match chance.below(3) {
                0 => CompressionChoice::Off,
                1 => CompressionChoice::Level(1),
                _ => CompressionChoice::Auto,
            },
            drift: if calm { 0 } else { chance.below(100_000) as i64 - 50_000 },
            object_bytes: [200 << 10, 900 << 10, 3 << 20][chance.below(3) as usize],
            pause: Duration::from_secs(2 + chance.below(20)),
            tiny: Tiny {
                mesh: chance.below(5) == 0,
                pages: chance.below(10) == 0,
                windows: chance.below(10) == 0,
                journal: chance.below(4) == 0,
            },
            disk_micros: [100, 2_000, 20_000][chance.below(3) as usize],
            clocks: Clocks::Right,
            large: 0,
            squatter: false,
            idles: false,
        };
        // A night is a hundred times as long as a world without one.
        match chance.below(32) {
            0..8 => weather.with_clocks(Clocks::Wrong),
            8 => weather.with_clocks(Clocks::WrongAndNight),
            9 | 10 => weather.with_large_machines(chance),
            11..15 => Weather { squatter: true, ..weather },
            15..19 => weather.idle(),
            _ => weather,
        }
    }

    /// A few small objects among a few machines, of which some have very many cores.
    fn with_large_machines(self, chance: &mut Entropy) -> Weather {
        let holders = 3 + chance.below(2) as usize;
        let code = draw_code(chance, holders);
        Weather {
            holders,
            code,
            budget: self.budget.max(least_budget(code)),
            large: 1 + chance.below(2) as usize,
            origins: 1,
            enemies: 0,
            liars: 0,
            object_bytes: 100 << 10,
            every: Duration::from_secs(20),
            tiny: Tiny { mesh: false, pages: true, windows: false, journal: true },
            ..self
        }
    }

    /// Leases end, and what they were for is freed; and those who stored it call from elsewhere by
    /// then.
    fn idle(mut self) -> Weather {
        self.idles = true;
        self.faults.extend([Fault::Roam; 2]);
        self
    }

    /// The same, in which a planted fault comes out.
    pub fn with(self, plant: Plant) -> Weather {
        match plant {
            Plant::AbsoluteLease | Plant::NoSuspension => self.with_clocks(Clocks::Wrong),
            Plant::OldAddress => Weather { faults: vec![Fault::Move], ..self },
            Plant::WrongDischarge => self.idle(),
            // In a lawful world a put has to bear the Squatter.
            Plant::NamesWithoutOwners | Plant::FirstPlacement => {
                let holders = self.holders.max(6);
                let calm = Weather { enemies: 0, liars: 0, large: 0, code: None, ..self };
                Weather { squatter: true, is_lawful: true, holders, ..calm }
            }
        }
    }

    /// The same, with these wall clocks.
    fn with_clocks(mut self, clocks: Clocks) -> Weather {
        self.clocks = clocks;
        if clocks != Clocks::Right {
            self.faults.extend([Fault::ClockJump; 3]);
        }
        self
    }

    /// The process of a holder or an origin.
    pub fn setup(&self, chance: &mut Entropy, place: Place) -> Setup {
        let is_holder = place < self.holders;
        let cores = if place < self.large { large(chance) } else { 1 + chance.below(4) as u8 };
        let mut limits = Limits::STANDARD;
        // Origins dial again after they were killed, and their old connections take a while to end.
        limits.incoming_per_prefix_max = 1024;
        if self.tiny.windows {
            limits.receive_window_start = 16 << 10;
            limits.receive_window_max = 64 << 10;
            limits.stream_receive_window = 64 << 10;
            limits.send_window_start = 16 << 10;
            limits.send_window_max = 64 << 10;
            limits.receive_credit = 256 << 10;
            limits.send_credit = 256 << 10;
        }
        let journal = if self.tiny.journal { 128 << 10 } else { 1 << 20 };
        let unit_bytes = match is_holder {
            true if cores >= LARGE => 1 << 20,
            true => 4 << 20,
            false => 64 << 20,
        };
        Setup {
            cores,
            mesh_slots: match cores {
                LARGE.. => 16,
                _ if self.tiny.mesh => 1 + chance.below(2) as usize,
                _ => 1024,
            },
            units: unit_bytes / (16 << 10),
            segments: if self.tiny.pages { 8 } else { 64 },
            store_pages: if self.tiny.pages { 12 } else { 128 },
            capacity: is_holder.then_some(64 << 30),
            extent_bytes: if self.tiny.journal { 128 << 10 } else { 1 << 20 },
            journal_bytes: journal,
            limits,
            mtu_max: [1200, 1452, 8952][chance.below(3) as usize],
            gso_segments_max: [1, 10, 64][chance.below(3) as usize],
            steer_mesh: chance.below(4) == 0,
            turn: Duration::from_micros(1 + chance.below(50)),
            // Now and then a kernel that holds little for who does not read at once.
            socket_trains: if chance.below(6) == 0 { 2 + chance.below(6) as usize } else { 256 },
        }
    }

    /// A disk that lies now and then.
    pub fn lying(&self, chance: &mut Entropy) -> Character {
        let mut some = || if chance.below(2) == 0 { chance.below(300) } else { 0 };
        Character {
            read_fails: some(),
            write_fails: 0,
            sync_fails: 0,
            read_flipped: some(),
            read_elsewhere: some(),
            read_short: some(),
            write_flipped: some(),
            write_elsewhere: some(),
            write_lost: some(),
            micros: self.disk_micros,
        }
    }

    /// A path in a storm.
    pub fn storm(chance: &mut Entropy) -> Path {
        Path {
            lost: chance.below(3000),
            duplicated: chance.below(1000),
            reordered: chance.below(5000),
            replayed: chance.below(1000),
            flipped: chance.below(500),
            cut: chance.below(500),
            grown: chance.below(500),
            delay: Duration::from_millis(chance.below(100)),
            jitter: Duration::from_millis(1 + chance.below(300)),
            mtu: 9000,
        }
    }
}

/// How many cores a large machine has, at one start or another.
pub fn large(chance: &mut Entropy) -> u8 {
    LARGE + chance.below(u64::from(LARGE_MOST - LARGE) + 1) as u8
}

/// Machines that a put may do without, whatever happens to them while it runs: of the m that its
/// code survives it needs half for being acknowledged.
fn tolerance(code: Option<Code>, holders: usize) -> usize {
    match code {
        Some(code) => holders.saturating_sub(code.n()).min(code.m() / 2),
        None => (holders / 2).min(4) / 2,
    }
}

fn draw_code(chance: &mut Entropy, holders: usize) -> Option<Code> {
    if chance.below(3) == 0 {
        return None;
    }
    let n = 2 + chance.below(holders as u64 - 1) as usize;
    let m = 1 + chance.below(n as u64 - 1) as usize;
    Code::new((n - m) as u8, m as u8)
}

/// Memory for the shards of one chunk of the least size (1 MiB): less is an honest refusal.
fn least_budget(code: Option<Code>) -> u64 {
    let copies = code.map_or(1, |code| code.n().div_ceil(code.k()) as u64);
    copies * (1 << 20) + code.map_or(0, |code| code.n() as u64) * (64 << 10)
}

fn draw_path(chance: &mut Entropy, calm: bool) -> Path {
    let mut some = |most: u64| if calm { 0 } else { chance.below(most) };
    Path {
        lost: some(300),
        duplicated: some(500),
        reordered: some(500),
        replayed: some(200),
        flipped: some(50),
        cut: some(50),
        grown: some(50),
        delay: Duration::from_micros(200 + some(30_000)),
        jitter: Duration::from_micros(1 + some(40_000)),
        mtu: [1280, 1500, 9000][some(3) as usize],
    }
}
