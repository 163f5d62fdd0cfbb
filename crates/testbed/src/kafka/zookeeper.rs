//! `ZooKeeper`, which holds the metadata of a cluster in versions of Kafka before 4.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};

use super::java;
use crate::Guardian;
use crate::wait::PATIENCE;

/// A running `ZooKeeper`. It ends when this value is dropped or this process ends.
pub(super) struct ZooKeeper {
    guardian: Guardian,
    port: u16,
}

impl ZooKeeper {
    pub(super) fn start(port: u16) -> Self {
        // It need not end in order, because its directory is removed.
        let guardian = Guardian::new("KILL", None).unwrap();
        // A session is at least two ticks long.
        let properties = format!(
            "clientPort={port}\nclientPortAddress=127.0.0.1\ndataDir=data\ntickTime=500\nadmin.enableServer=false\n"
        );
        fs::write(guardian.directory().join("zookeeper.properties"), properties).unwrap();
        fs::create_dir(guardian.directory().join("tmp")).unwrap();
        let zookeeper = Self { guardian, port };
        zookeeper.launch();
        zookeeper
    }

    /// Runs a command in its directory while it is stopped.
    pub(super) fn change_files(&self, command: &str) {
        self.guardian.signal("KILL").unwrap();
        self.guardian.wait(PATIENCE).unwrap();
        assert_eq!(self.guardian.run(command).unwrap(), 0, "{command}");
        self.launch();
    }

    fn launch(&self) {
        self.guardian.start(&java("org.apache.zookeeper.server.ZooKeeperServerMain zookeeper.properties")).unwrap();
        let open = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        self.guardian.wait_until(open, PATIENCE, "log").unwrap_or_else(|error| panic!("{error}"));
    }
}
