//! What the lab's provider offers: regions, sizes, images. Few of each, but enough to be wrong about.

use serde::{Deserialize, Serialize};

/// An image on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Slug, for instance `debian-12-x64`.
    pub slug: String,
    /// `Debian`.
    pub distribution: String,
    /// `12 x64`.
    pub name: String,
}

/// The number of the first image.
const FIRST_IMAGE: usize = 150_000_000;

impl Image {
    /// The image on offer with this slug or number, and its number.
    pub fn find<'a>(offered: &'a [Image], which: &str) -> Option<(usize, &'a Image)> {
        let mut numbered = (FIRST_IMAGE..).zip(offered);
        numbered.find(|(number, image)| image.slug == which || number.to_string() == which)
    }

    /// An image of Debian's: `12`, or `sid`.
    pub fn debian(version: &str) -> Self {
        Self {
            slug: format!("debian-{version}-x64"),
            distribution: "Debian".into(),
            name: format!("{version} x64"),
        }
    }
}

/// A data centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Slug.
    pub slug: &'static str,
    /// Name.
    pub name: &'static str,
    /// Whether it takes new droplets.
    pub available: bool,
}

/// All regions, the retired ones included. The names are DigitalOcean's.
pub const REGIONS: [Region; 12] = [
    region("nyc1", "New York 1", true),
    region("nyc2", "New York 2", false),
    region("nyc3", "New York 3", true),
    region("sfo2", "San Francisco 2", true),
    region("sfo3", "San Francisco 3", true),
    region("ams3", "Amsterdam 3", true),
    region("sgp1", "Singapore 1", true),
    region("lon1", "London 1", true),
    region("fra1", "Frankfurt 1", true),
    region("tor1", "Toronto 1", true),
    region("blr1", "Bangalore 1", true),
    region("syd1", "Sydney 1", true),
];

const fn region(slug: &'static str, name: &'static str, available: bool) -> Region {
    Region { slug, name, available }
}

impl Region {
    /// The region with this slug.
    pub fn find(slug: &str) -> Option<&'static Region> {
        REGIONS.iter().find(|region| region.slug == slug)
    }

    /// The regions that a droplet can be made in: the one with this slug, those whose slugs are this and a number, or,
    /// if none is named, all.
    pub fn meant(by: Option<&str>) -> Vec<&'static Region> {
        let by = by.unwrap_or_default();
        if let Some(region) = Region::find(by) {
            return vec![region];
        }
        let matches = |region: &&Region| {
            by.is_empty() || region.slug.trim_end_matches(|c: char| c.is_ascii_digit()) == by
        };
        REGIONS.iter().filter(|region| region.available).filter(matches).collect()
    }

    /// The UUID of the region's default private network: fixed, so that it is the same in every lab.
    pub fn vpc(&self) -> String {
        let place = REGIONS.iter().position(|region| region.slug == self.slug).unwrap_or_default();
        format!("760e09ef-dc84-41e8-981e-{:012x}", 0x3cfd_feaa_e000_u64 + place as u64)
    }

    /// The region whose default private network has this UUID.
    pub fn of_vpc(id: &str) -> Option<&'static Region> {
        REGIONS.iter().find(|region| region.vpc() == id)
    }

    /// Slugs of the sizes that can be had here.
    pub fn sizes(&self) -> Vec<&'static str> {
        SIZES.iter().filter(|size| size.is_in(self.slug)).map(|size| size.slug).collect()
    }
}

/// A droplet size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// Slug.
    pub slug: &'static str,
    /// Memory in MiB.
    pub memory: u64,
    /// Virtual CPUs.
    pub vcpus: u64,
    /// Disk in GiB.
    pub disk: u64,
    /// US dollars a month.
    pub monthly: f64,
    /// Kind of droplet.
    pub description: &'static str,
}

/// More sizes than a default page of a list holds.
pub const SIZES: [Size; 24] = [
    size("s-1vcpu-512mb-10gb", 512, 1, 10, 4.0, "Basic"),
    size("s-1vcpu-1gb", 1024, 1, 25, 6.0, "Basic"),
    size("s-1vcpu-1gb-amd", 1024, 1, 25, 7.0, "Basic AMD"),
    size("s-1vcpu-1gb-intel", 1024, 1, 25, 7.0, "Basic Intel"),
    size("s-1vcpu-2gb", 2048, 1, 50, 12.0, "Basic"),
    size("s-1vcpu-2gb-amd", 2048, 1, 50, 14.0, "Basic AMD"),
    size("s-1vcpu-2gb-intel", 2048, 1, 50, 14.0, "Basic Intel"),
    size("s-2vcpu-2gb", 2048, 2, 60, 18.0, "Basic"),
    size("s-2vcpu-2gb-amd", 2048, 2, 60, 21.0, "Basic AMD"),
    size("s-2vcpu-2gb-intel", 2048, 2, 60, 21.0, "Basic Intel"),
    size("s-2vcpu-4gb", 4096, 2, 80, 24.0, "Basic"),
    size("s-2vcpu-4gb-amd", 4096, 2, 80, 28.0, "Basic AMD"),
    size("s-2vcpu-4gb-intel", 4096, 2, 80, 28.0, "Basic Intel"),
    size("s-4vcpu-8gb", 8192, 4, 160, 48.0, "Basic"),
    size("s-4vcpu-8gb-amd", 8192, 4, 160, 56.0, "Basic AMD"),
    size("s-4vcpu-8gb-intel", 8192, 4, 160, 56.0, "Basic Intel"),
    size("s-8vcpu-16gb", 16_384, 8, 320, 96.0, "Basic"),
    size("c-2", 4096, 2, 25, 42.0, "CPU-Optimized"),
    size("c-4", 8192, 4, 50, 84.0, "CPU-Optimized"),
    size("g-2vcpu-8gb", 8192, 2, 25, 63.0, "General Purpose"),
    size("g-4vcpu-16gb", 16_384, 4, 50, 126.0, "General Purpose"),
    size("m-2vcpu-16gb", 16_384, 2, 50, 84.0, "Memory-Optimized"),
    size("m-4vcpu-32gb", 32_768, 4, 100, 168.0, "Memory-Optimized"),
    size("so-2vcpu-16gb", 16_384, 2, 300, 131.0, "Storage-Optimized"),
];

const fn size(
    slug: &'static str,
    memory: u64,
    vcpus: u64,
    disk: u64,
    monthly: f64,
    description: &'static str,
) -> Size {
    Size { slug, memory, vcpus, disk, monthly, description }
}

impl Size {
    /// The size with this slug.
    pub fn find(slug: &str) -> Option<&'static Size> {
        SIZES.iter().find(|size| size.slug == slug)
    }

    /// Whether it can be had in a region: the storage-optimized one in two only, so that there is a difference.
    pub fn is_in(&self, region: &str) -> bool {
        Region::find(region).is_some_and(|region| region.available)
            && (self.description != "Storage-Optimized" || ["nyc1", "fra1"].contains(&region))
    }

    /// Slugs of the regions where it can be had.
    pub fn regions(&self) -> Vec<&'static str> {
        REGIONS.iter().map(|region| region.slug).filter(|region| self.is_in(region)).collect()
    }
}
