//! Tests the bound on input that is not complete, with real sockets.

use super::*;

/// The first fragment of a message that goes on, with a mask that changes nothing.
fn fragment(bytes: usize) -> Vec<u8> {
    let length = u16::try_from(bytes).unwrap().to_be_bytes();
    [&[0x01, 0xFE, length[0], length[1], 0, 0, 0, 0][..], &vec![b'x'; bytes]].concat()
}

impl World {
    /// Reads once, and handles what has been decoded.
    fn read_some(&mut self, conn: ConnId) {
        self.driver.enqueue(conn);
        self.driver.read_queued();
    }

    /// The client begins a message that it does not end.
    fn begin(&mut self, (conn, client): &mut (ConnId, TcpStream), bytes: usize) {
        client.write_all(&fragment(bytes)).unwrap();
        while self.entry(*conn).validator.held_bytes() < bytes && !self.is_closing(*conn) {
            self.read_some(*conn);
        }
    }

    fn connect_as(&mut self, identity: Identity) -> (ConnId, TcpStream) {
        let rights = self.driver.parts.authority.rights(&identity).unwrap();
        let (newcomer, client) = self.newcomer();
        (self.adopt(Newcomer { identity, rights, ..newcomer }).unwrap(), client)
    }
}

#[test]
fn incomplete_messages_of_a_principal_take_no_more_than_their_bound() {
    let mut world = World::new();
    // In KiB. The usual bound is longer than is sensible to send here.
    world.driver.incomplete.most = 256;
    let mut clients: Vec<_> = (0..5).map(|_| world.connect()).collect();
    clients.iter_mut().for_each(|client| world.begin(client, 60 << 10));
    let closing: Vec<bool> = clients.iter().map(|(conn, _)| world.is_closing(*conn)).collect();
    assert_eq!(closing, [false, false, false, false, true], "the one that goes beyond it");
    assert_eq!(world.entry(clients[4].0).validator.held_bytes(), 0, "and that one holds nothing any more");
    let identity = world.identity_of_another();
    let mut other = world.connect_as(identity);
    world.begin(&mut other, 60 << 10);
    assert!(!world.is_closing(other.0), "others have a bound of their own");
    world.driver.vanish(clients[0].0);
    let mut next = world.connect();
    world.begin(&mut next, 60 << 10);
    assert!(!world.is_closing(next.0), "there is room again");
    for (conn, _) in clients.iter().skip(1).chain([&other, &next]) {
        world.driver.vanish(*conn);
    }
    assert!(world.driver.incomplete.by_principal.is_empty());
}

#[test]
fn a_message_that_is_complete_counts_no_longer() {
    let mut world = World::new();
    let mut client = world.connect();
    world.begin(&mut client, 60 << 10);
    assert!(world.driver.incomplete.by_principal.values().eq([&60]));
    let (conn, mut client) = client;
    client.write_all(&[0x80, 0x80, 0, 0, 0, 0]).unwrap();
    while world.entry(conn).validator.held_bytes() > 0 || world.driver.parsing > 0 {
        world.read_some(conn);
    }
    assert!(world.driver.incomplete.by_principal.is_empty());
}
