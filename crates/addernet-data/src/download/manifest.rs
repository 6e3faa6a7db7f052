//! What is published, where, and with which sums.
//!
//! MD5 sums: the data sets' own pages (CIFAR, Fashion-MNIST) and torchvision (MNIST). SHA-256 sums of the
//! same files and of CIFAR's members: several independent projects agree on each.

use super::Digests;
use crate::kind::DatasetKind;

/// The files of a data set.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    /// The folder below the data directory.
    pub(super) folder: String,
    /// Addresses to which file names are appended, in the order in which they are tried.
    pub(super) mirrors: Vec<String>,
    pub(super) archives: Vec<Archive>,
}

/// One file to download.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) digests: Digests,
    pub(super) content: Content,
}

/// What to do with a file that has arrived.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Keep it.
    Plain,
    /// Unpack these members.
    TarGz { members: Vec<Member> },
}

/// A file inside an archive.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its path in the archive.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) digests: Digests,
}

impl Member {
    /// The last part of its path, the name under which it is written.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// A file as it is in the end.
pub(super) struct Target<'a> {
    pub(super) name: &'a str,
    pub(super) size: u64,
    pub(super) digests: &'a Digests,
}

impl Archive {
    /// The files that are there when all is done.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target<'_>> {
        let members: &[Member] = match &self.content {
            Content::Plain => &[],
            Content::TarGz { members } => members,
        };
        let itself = matches!(self.content, Content::Plain).then(|| Target {
            name: &self.name,
            size: self.size,
            digests: &self.digests,
        });
        let members = members.iter().map(|m| Target {
            name: m.name(),
            size: m.size,
            digests: &m.digests,
        });
        itself.into_iter().chain(members)
    }
}

impl Manifest {
    /// The manifest of a data set; `None` if it is not published anywhere.
    pub(super) fn published(kind: DatasetKind) -> Option<Manifest> {
        match kind {
            DatasetKind::Cifar10 => Some(cifar10()),
            DatasetKind::Cifar100 => Some(cifar100()),
            DatasetKind::Mnist => Some(mnist()),
            DatasetKind::FashionMnist => Some(fashion_mnist()),
            DatasetKind::ImageFolder | DatasetKind::Shapes => None,
        }
    }
}

const TORONTO: [&str; 2] = [
    "https://www.cs.toronto.edu/~kriz",
    "https://cave.cs.toronto.edu/kriz",
];

fn cifar10() -> Manifest {
    const BATCH: u64 = 30_730_000;
    let members = [
        (
            "data_batch_1.bin",
            "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        ),
        (
            "data_batch_2.bin",
            "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        ),
        (
            "data_batch_3.bin",
            "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        ),
        (
            "data_batch_4.bin",
            "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        ),
        (
            "data_batch_5.bin",
            "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        ),
        (
            "test_batch.bin",
            "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
    ];
    cifar(
        "cifar-10-batches-bin",
        (
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c32a1d4ab5d03f1284b67883e8d87530",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
        &members.map(|(name, sha256)| (name, BATCH, sha256)),
    )
}

fn cifar100() -> Manifest {
    cifar(
        "cifar-100-binary",
        (
            "cifar-100-binary.tar.gz",
            168_513_733,
            "03b5dce01913d631647c71ecec9e9cb8",
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
        &[
            (
                "train.bin",
                153_700_000,
                "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            ),
            (
                "test.bin",
                30_740_000,
                "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            ),
        ],
    )
}

fn mnist() -> Manifest {
    idx(
        "mnist",
        &[
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ],
        [
            (
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                28_881,
                "d53e105ee54ea40749a09fcbcd1e9432",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "9fb629c4189551a2d022fa330f9573f3",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "ec29112dd5afa0611ce80d1b7f02629c",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ],
    )
}

fn fashion_mnist() -> Manifest {
    idx(
        "fashion-mnist",
        // This address answers without TLS only; the SHA-256 sums make up for it.
        &["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"],
        [
            (
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                29_515,
                "25c81989df183df01b3e8a0aad5dffbe",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "bef4ecab320f06d8554ea6380940ec79",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "bb300cfdad3c16e7a12a480ee83cd310",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ],
    )
}

/// Name, size, MD5, SHA-256.
type Published = (&'static str, u64, &'static str, &'static str);

fn archive((name, size, md5, sha256): Published, content: Content) -> Archive {
    let digests = Digests {
        md5: Some(md5.to_owned()),
        sha256: sha256.to_owned(),
    };
    Archive {
        name: name.to_owned(),
        size,
        digests,
        content,
    }
}

fn cifar(folder: &str, tar: Published, members: &[(&str, u64, &str)]) -> Manifest {
    let members = members
        .iter()
        .map(|&(name, size, sha256)| Member {
            path: format!("{folder}/{name}"),
            size,
            digests: Digests {
                md5: None,
                sha256: sha256.to_owned(),
            },
        })
        .collect();
    Manifest {
        folder: folder.to_owned(),
        mirrors: TORONTO.map(str::to_owned).to_vec(),
        archives: vec![archive(tar, Content::TarGz { members })],
    }
}

fn idx(folder: &str, mirrors: &[&str], files: [Published; 4]) -> Manifest {
    Manifest {
        folder: folder.to_owned(),
        mirrors: mirrors.iter().map(|&mirror| mirror.to_owned()).collect(),
        archives: files
            .into_iter()
            .map(|file| archive(file, Content::Plain))
            .collect(),
    }
}
