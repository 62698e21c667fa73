//! The hardware of a simulated machine, and the params that describe it.
//!
//! Only a seed is stored: the same seed writes the same text, so a fleet of 100,000 machines with 10 KB of inventory
//! each costs a few megabytes. Sizes are chosen so that a machine is 4 to 16 KB of compact JSON.

use super::random::Random;
use super::writer::Writer;

const VENDORS: [(&str, &str); 4] = [
    ("Dell Inc.", "PowerEdge R660"),
    ("HPE", "ProLiant DL360 Gen11"),
    ("Supermicro", "SYS-621C-TN12R"),
    ("Lenovo", "ThinkSystem SR630 V3"),
];
const CPUS: [&str; 3] =
    ["AMD EPYC 9354 32-Core Processor", "Intel(R) Xeon(R) Gold 6430", "Intel(R) Xeon(R) Silver 4410Y"];
const DISKS: [(&str, u32); 3] =
    [("SAMSUNG MZQL21T9HCJR-00A07", 1_920), ("INTEL SSDSC2KB480G8", 480), ("ST8000NM000A-2KE101", 8_001)];

/// The parts of one machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hardware {
    seed: u64,
    nics: u32,
    disks: u32,
    dimms: u32,
}

impl Hardware {
    pub(super) fn new(random: &mut Random) -> Self {
        let seed = random.next();
        let size = random.below(4);
        Self { seed, nics: 2 + size + random.below(3), disks: 2 + size * 6 + random.below(6), dimms: 4 * (size + 1) }
    }

    fn mac(self, nic: u32) -> String {
        let [.., d, e] = self.seed.to_be_bytes();
        format!("52:54:{d:02x}:{e:02x}:{:02x}:{nic:02x}", (self.seed >> 16) & 0xFF)
    }

    pub(super) fn macs(self) -> impl Iterator<Item = String> {
        (0..self.nics).map(move |nic| self.mac(nic))
    }

    /// Writes what the operator knows before the machine has been inspected.
    pub(super) fn write_plan(self, w: &mut Writer) {
        self.write_keys(w);
        w.nested("bios-target-configuration", |w| {
            for name in BIOS {
                w.text(name, "Enabled");
            }
        });
        write_firmware(w, self.seed);
        w.texts("cluster/tags", ["base", "metal"]);
        self.write_topology(w);
        w.list("raid-target-config", 1 + self.disks / 4, |w, volume| {
            w.plain("Name", format_args!("volume{volume}"));
            w.text("RaidLevel", if volume == 0 { "raid1" } else { "raid6" });
            w.text("Size", "max");
            w.text("StripeSize", "64 KB");
            w.flag("Bootable", volume == 0);
            w.number("Controller", 0);
            w.number("DiskCount", if volume == 0 { 2 } else { 4 });
            w.text("Type", "disk,ssd");
        });
    }

    fn write_keys(self, w: &mut Writer) {
        let mut random = Random::new(self.seed ^ 1);
        w.nested("access-keys", |w| {
            for owner in ["rocketskates", "operations", "backup"] {
                let (high, low) = ((random.next(), random.next()), (random.next(), random.next()));
                let key = format!("{:016x}{:016x}{:016x}{:016x}", high.0, high.1, low.0, low.1);
                w.plain(owner, format_args!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{key}"));
            }
        });
    }

    fn write_topology(self, w: &mut Writer) {
        w.nested("network-topology", |w| {
            w.text("version", "v2");
            w.list("bonds", self.nics / 2, |w, bond| {
                w.plain("name", format_args!("bond{bond}"));
                w.text("mode", "802.3ad");
                w.plains("members", [self.mac(bond * 2), self.mac(bond * 2 + 1)]);
                w.number("mtu", 9_000);
                w.list("vlans", 4, |w, vlan| {
                    w.number("id", 100 + vlan * 100 + bond);
                    w.plain("address", format_args!("10.{vlan}.{bond}.{}/22", self.seed & 0x7F));
                    w.plain("gateway", format_args!("10.{vlan}.{bond}.1"));
                });
            });
        });
    }

    /// Writes what discovery finds: `gohai-inventory`.
    pub(super) fn write_inventory(self, w: &mut Writer) {
        let mut random = Random::new(self.seed);
        w.nested("gohai-inventory", |w| {
            self.write_board(w, &mut random);
            w.list("Interfaces", self.nics, |w, nic| self.write_nic(w, nic, &mut random));
            w.list("Disks", self.disks, |w, disk| write_disk(w, disk, &mut random));
            w.list("DIMMs", self.dimms, |w, slot| write_dimm(w, slot, &mut random));
        });
    }

    fn write_board(self, w: &mut Writer, random: &mut Random) {
        let (vendor, product) = VENDORS[random.index(VENDORS.len())];
        w.nested("System", |w| {
            w.text("Manufacturer", vendor);
            w.text("ProductName", product);
            w.plain("SerialNumber", format_args!("{:07X}", random.next() & 0xFFF_FFFF));
            w.plain("UUID", random.uuid());
            w.plain("BIOSVersion", format_args!("2.{}.{}", random.below(9), random.below(9)));
        });
        w.nested("CPU", |w| {
            w.text("Model", CPUS[random.index(CPUS.len())]);
            w.number("Sockets", 2);
            w.number("Cores", 64);
            w.number("Threads", 128);
            w.number("MHz", random.between(2_000, 3_800));
        });
        w.number("MemoryGiB", self.dimms * 32);
    }

    fn write_nic(self, w: &mut Writer, nic: u32, random: &mut Random) {
        w.plain("Name", format_args!("enp{}s0f{}np{nic}", 1 + nic / 2, nic % 2));
        w.plain("HardwareAddr", self.mac(nic));
        w.text("Driver", "mlx5_core");
        w.text("Model", "MT2894 Family [ConnectX-6 Lx]");
        w.plain("Firmware", format_args!("26.3{}.{}", random.below(9), random.between(1_000, 3_999)));
        w.number("SpeedMbps", 25_000);
        w.number("MTU", 1_500);
        w.flag("Up", random.below(4) > 0);
        w.plain("SwitchPort", format_args!("leaf{}:Ethernet{}", random.below(64), random.below(48)));
    }
}

const BIOS: [&str; 28] = [
    "BootMode.Uefi",
    "ProcVirtualization",
    "ProcX2Apic",
    "SriovGlobalEnable",
    "LogicalProc",
    "PxeDev1EnDis",
    "HttpDev1EnDis",
    "SecureBoot",
    "TpmSecurity",
    "AcPwrRcvry",
    "NodeInterleave",
    "CorrEccSmi",
    "MemTest",
    "MemOpMode",
    "MemRefreshRate",
    "SubNumaCluster",
    "DirectoryMode",
    "DeadLineLlcAlloc",
    "EmbSata",
    "InternalUsb",
    "OsWatchdogTimer",
    "SerialComm",
    "ProcTurboMode",
    "ProcCStates",
    "WorkloadProfile",
    "UefiVariableAccess",
    "SecureMe",
    "PowerCycleRequest",
];

const FIRMWARE: [&str; 10] =
    ["BIOS", "iDRAC", "CPLD", "NIC", "HBA", "Backplane", "PSU", "Diagnostics", "DriverPack", "TPM"];

fn write_firmware(w: &mut Writer, seed: u64) {
    let mut random = Random::new(seed ^ 2);
    w.list("flash-list", 10, |w, at| {
        w.text("Package", FIRMWARE[at as usize]);
        w.plain("Version", format_args!("{}.{}.{}", random.between(1, 7), random.below(30), random.below(90)));
        w.plain("File", format_args!("files/firmware/{:08x}.bin", random.next() >> 32));
        w.plain("Md5", format_args!("{:016x}{:016x}", random.next(), random.next()));
    });
}

fn write_disk(w: &mut Writer, disk: u32, random: &mut Random) {
    let (model, gigabytes) = DISKS[random.index(DISKS.len())];
    w.plain("Name", format_args!("/dev/disk/by-path/pci-0000:{:02x}:00.0-sas-phy{disk}", random.below(256)));
    w.text("Model", model);
    w.plain("Serial", format_args!("S{:015X}", random.next() >> 4));
    w.number("SizeGB", gigabytes);
    w.flag("Rotational", gigabytes > 4_000);
    w.text("Health", "OK");
    w.number("TemperatureC", random.between(24, 48));
    w.number("PowerOnHours", random.below(40_000));
}

fn write_dimm(w: &mut Writer, slot: u32, random: &mut Random) {
    w.plain(
        "Slot",
        format_args!("DIMM_{}{}", char::from(b'A' + u8::try_from(slot % 16).expect("below 16")), slot / 16),
    );
    w.number("SizeGiB", 32);
    w.text("Type", "DDR5");
    w.number("SpeedMTs", 4_800);
    w.text("Manufacturer", "Samsung");
    w.plain("SerialNumber", format_args!("{:08X}", random.next() >> 32));
}
