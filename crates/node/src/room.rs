//! How much room PostgreSQL has, and what that calls for. Pure.
//!
//! A disk that fills up stops PostgreSQL with a PANIC as soon as there is no room for the next WAL segment, and a standby
//! that takes over has the same data on a disk of the same size. So the guard acts before: it warns, gives up a reserve,
//! and refuses writes while there still is room for the WAL of its own heartbeats.

use cluster_contract::Millis;
use cluster_contract::status::Level;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Room must be better for so long before it counts as better: what an aborted statement gives back is taken again a
/// moment later.
const BETTER_FOR: Millis = 5_000;

/// A file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub size: u64,
    /// What postgres may still take.
    pub free: u64,
    /// What the reserve has taken of it.
    pub reserve: u64,
}

/// The file systems that PostgreSQL writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The WAL's, on which the reserve is.
    pub wal: FileSystem,
    /// The data directory's, where that is another.
    pub data: Option<FileSystem>,
}

impl FileSystem {
    /// What is there to be had: the reserve is given up when it is needed. Giving it up changes no level therefore.
    pub fn available(self) -> u64 {
        self.free.saturating_add(self.reserve)
    }

    /// Below this writes are refused: a fiftieth, at least 64 MiB and at most 1 GiB, but no more than a fifth of a
    /// small disk. What PostgreSQL writes until it has heard of it, and the WAL of what it still does, has room there.
    pub fn full_below(self) -> u64 {
        (self.size / 50).clamp(64 * MIB, GIB).min(self.size / 5)
    }

    /// Below this the reserve is given up.
    pub fn scarce_below(self) -> u64 {
        2 * self.full_below()
    }

    /// Below this there is a warning: a tenth, and at most 10 GiB.
    pub fn low_below(self) -> u64 {
        (self.size / 10).min(10 * GIB).max(3 * self.full_below())
    }

    /// From here on writes are taken again.
    pub fn writes_again_at(self) -> u64 {
        again(self.full_below())
    }

    /// The size of the reserve: three quarters of what writes are refused below. A disk that is filled to the last byte
    /// at once is full all the same, and has so much room a moment later.
    pub fn reserve_size(self) -> u64 {
        self.full_below() / 4 * 3
    }

    /// Whether the reserve is to be given up: what is free without it is half of what writes are refused below, which
    /// comes a little before. Not sooner: what fills the disk would take the reserve with the rest, and what fills it
    /// within a moment comes to its end before the reserve is gone.
    pub fn needs_reserve(self) -> bool {
        self.free < self.full_below() / 2
    }

    /// The level now, `before` being the last one: a better one begins a quarter above the threshold at which it ended.
    fn level(self, before: Level) -> Level {
        let available = self.available();
        let thresholds = [
            (Level::Full, self.full_below()),
            (Level::Scarce, self.scarce_below()),
            (Level::Low, self.low_below()),
        ];
        let is =
            |(level, below): &(Level, u64)| available < if *level <= before { again(*below) } else { *below };
        thresholds.into_iter().find(is).map_or(Level::Ample, |(level, _)| level)
    }
}

fn again(below: u64) -> u64 {
    below + below / 4
}

/// What is remembered of it between two looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    wal: Level,
    data: Level,
    /// The level that counts: the worse one, once it has lasted.
    level: Level,
    since: Millis,
    better_since: Option<Millis>,
}

impl Room {
    pub fn new(now: Millis) -> Room {
        Room { wal: Level::Ample, data: Level::Ample, level: Level::Ample, since: now, better_since: None }
    }

    pub fn level(&self) -> Level {
        self.level
    }

    /// Since when it is at that level.
    pub fn since(&self) -> Millis {
        self.since
    }

    /// The file system on which PostgreSQL is closest to its end, by what is remembered of both, and whether it is that of
    /// the WAL.
    pub fn tightest(&self, space: &Space) -> (FileSystem, bool) {
        let share = |it: FileSystem| u128::from(it.available()) * 1_000 / u128::from(it.size.max(1));
        let rank = |level: Level, it: FileSystem| (std::cmp::Reverse(level), share(it));
        match space.data {
            Some(data) if rank(self.data, data) < rank(self.wal, space.wal) => (data, false),
            _ => (space.wal, true),
        }
    }

    /// Takes a look into account. What gets worse counts at once. Whether the level has changed.
    pub fn observe(&mut self, now: Millis, space: &Space) -> bool {
        self.wal = space.wal.level(self.wal);
        self.data = space.data.map_or(Level::Ample, |data| data.level(self.data));
        let seen = self.wal.max(self.data);
        if seen >= self.level {
            self.better_since = None;
        } else if now < *self.better_since.get_or_insert(now) + BETTER_FOR {
            return false;
        }
        if seen == self.level {
            return false;
        }
        (self.level, self.since, self.better_since) = (seen, now, None);
        true
    }
}

/// Bytes for people: `12 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    if bytes >= 10 * GIB {
        format!("{} GiB", bytes / GIB)
    } else if bytes >= GIB {
        let tenths = bytes / (GIB / 10);
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(size: u64, free: u64) -> FileSystem {
        FileSystem { size, free, reserve: 0 }
    }

    fn wal(size: u64, free: u64) -> Space {
        Space { wal: of(size, free), data: None }
    }

    #[test]
    fn thresholds_suit_small_disks_and_large_ones() {
        let of_size = |size| {
            let disk = of(size, 0);
            [disk.full_below(), disk.scarce_below(), disk.low_below(), disk.reserve_size()].map(|it| it / MIB)
        };
        assert_eq!(of_size(256 * MIB), [51, 102, 153, 38]);
        assert_eq!(of_size(GIB), [64, 128, 192, 48]);
        assert_eq!(of_size(25 * GIB), [512, 1024, 2560, 384]);
        assert_eq!(of_size(100 * GIB), [1024, 2048, 10_240, 768]);
        assert_eq!(of_size(8_000 * GIB), [1024, 2048, 10_240, 768]);
    }

    #[test]
    fn it_gets_worse_at_once_and_better_when_it_lasts() {
        let mut room = Room::new(0);
        let size = 25 * GIB;
        let mut look = |now, free_mib: u64| {
            room.observe(now, &wal(size, free_mib * MIB));
            room.level()
        };
        assert_eq!(look(100, 5_000), Level::Ample);
        assert_eq!(look(200, 2_559), Level::Low);
        assert_eq!(look(300, 511), Level::Full);
        // Above the threshold, and not by a quarter.
        assert_eq!(look(10_000, 639), Level::Full);
        assert_eq!(look(20_000, 639), Level::Full);
        assert_eq!(look(21_000, 5_000), Level::Full);
        assert_eq!(look(25_999, 5_000), Level::Full);
        assert_eq!(look(26_000, 5_000), Level::Ample);
        // What is taken again within that time has changed nothing.
        assert_eq!(look(30_000, 100), Level::Full);
        assert_eq!(look(31_000, 5_000), Level::Full);
        assert_eq!(look(35_000, 100), Level::Full);
        assert_eq!(look(36_500, 5_000), Level::Full);
        assert_eq!(look(41_500, 700), Level::Scarce);
    }

    #[test]
    fn a_reserve_that_is_given_up_changes_no_level() {
        for free in [0, 100 * MIB, 600 * MIB, 2 * GIB] {
            let (mut held, mut given_up) = (Room::new(0), Room::new(0));
            held.observe(
                1,
                &Space { wal: FileSystem { size: 25 * GIB, free, reserve: 384 * MIB }, data: None },
            );
            given_up.observe(1, &wal(25 * GIB, free + 384 * MIB));
            assert_eq!(held.level(), given_up.level());
        }
        // It is given up before writes are refused, and while room is scarce.
        for size in [256 * MIB, 25 * GIB, 8_000 * GIB] {
            let disk = of(size, 0);
            let at = FileSystem { free: disk.full_below() / 2 - 1, reserve: disk.reserve_size(), ..disk };
            assert!(at.needs_reserve() && at.available() > at.full_below());
            assert_eq!(at.level(Level::Ample), Level::Scarce);
        }
        // Filled to the last byte with the reserve in place: that is full.
        let disk = of(25 * GIB, 0);
        let filled = FileSystem { reserve: disk.reserve_size(), ..disk };
        assert_eq!(filled.level(Level::Ample), Level::Full);
    }

    #[test]
    fn the_worse_of_two_file_systems_counts() {
        let mut room = Room::new(0);
        let space = Space { wal: of(100 * GIB, 50 * GIB), data: Some(of(200 * GIB, 10 * MIB)) };
        assert!(room.observe(1, &space));
        assert_eq!((room.level(), room.tightest(&space).1), (Level::Full, false));
    }

    #[test]
    fn the_one_that_has_not_got_enough_better_is_named() {
        let mut room = Room::new(0);
        let at = |free| Space { wal: of(512 * MIB, free), data: Some(of(250 * GIB, 50 * GIB)) };
        room.observe(1, &at(150 * MIB));
        // More than what it was low below, and not by a quarter; by its share it has more than the other.
        let space = at(220 * MIB);
        room.observe(60_000, &space);
        assert_eq!((room.level(), room.tightest(&space).1), (Level::Low, true));
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!([0, 700 * MIB, 1536 * MIB, 25 * GIB].map(size), ["0 MiB", "700 MiB", "1.5 GiB", "25 GiB"]);
    }

    proptest! {
        #[test]
        fn less_room_is_never_better(size in MIB..u64::MAX / 4, one in 0.0..1.0f64, other in 0.0..1.0f64, before in 0..4usize) {
            let before = [Level::Ample, Level::Low, Level::Scarce, Level::Full][before];
            let free = |part: f64| (size as f64 * part) as u64;
            let (less, more) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(of(size, free(less)).level(before) >= of(size, free(more)).level(before));
        }

        #[test]
        fn thresholds_are_in_order_and_an_empty_disk_is_ample(size in MIB..u64::MAX / 4) {
            let disk = of(size, 0);
            prop_assert!(disk.reserve_size() < disk.full_below());
            prop_assert!(disk.writes_again_at() < disk.scarce_below());
            prop_assert!(disk.scarce_below() < disk.low_below());
            prop_assert!(again(disk.low_below()) < size);
            prop_assert_eq!(of(size, size).level(Level::Full), Level::Ample);
        }

        /// What moves by less than a quarter of a threshold to and fro changes the level once at most.
        #[test]
        fn it_does_not_flap(size in 64 * MIB..u64::MAX / 4, at in 0.0..1.0f64, looks in prop::collection::vec(0.0..1.0f64, 1..60)) {
            let disk = of(size, 0);
            let (base, swing) = ((disk.low_below() as f64 * 2.0 * at) as u64, disk.full_below() / 4);
            let mut room = Room::new(0);
            let mut changes = 0;
            for (index, look) in looks.iter().enumerate() {
                let free = base + (swing as f64 * look) as u64;
                changes += u32::from(room.observe(index as u64 * 10_000, &wal(size, free)));
            }
            // From ample down to where it swings: a threshold within the swing is crossed once.
            prop_assert!(changes <= 2, "{changes}");
        }
    }
}
