//! The slots of a cluster: which one a key is in, and which node serves it.

use ::redis::{FromRedisValue as _, Value};

use super::address::Address;

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of `key`, or of its first part in braces if it has one.
///
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|&byte| byte == b'{')? + 1;
        let length = key[open..].iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    // CRC-16/XMODEM
    let crc = tag().unwrap_or(key).iter().fold(0_u16, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// Slots that one node serves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) address: Address,
}

impl Range {
    /// Parses the answer of `node` to `CLUSTER SLOTS`: for each range its first and last slot, its
    /// master, and its replicas. A node is an address, a port and more.
    pub(super) fn parse(answer: Value, node: &Address) -> Vec<Self> {
        let Value::Array(ranges) = answer else { return Vec::new() };
        let range = |range: Value| {
            let Value::Array(range) = range else { return None };
            let [first, last, Value::Array(master), ..] = range.as_slice() else { return None };
            let [host, port, ..] = master.as_slice() else { return None };
            let slot = |slot| u16::from_redis_value_ref(slot).ok().filter(|&slot| slot < SLOTS);
            let host = Option::<String>::from_redis_value_ref(host).ok()?.unwrap_or_default();
            if host == "?" {
                return None; // the node does not know it
            }
            let address = Address::told_by(node, &host, u16::from_redis_value_ref(port).ok()?);
            let (first, last) = (slot(first)?, slot(last)?);
            (first <= last).then_some(Self { first, last, address })
        };
        ranges.into_iter().filter_map(range).collect()
    }
}

#[cfg(test)]
mod tests {
    use ::redis::{cluster_routing::Slot, parse_redis_value};

    use super::*;

    #[test]
    fn slots_are_the_clients() {
        for key in ["", "123456789", "{", "a{}b", "a{b", "{shop}:1", "}{shop}x{y}", "a{{b}}c"] {
            assert_eq!(Slot::new(slot_of(key.as_bytes())), Some(Slot::for_key(key)), "{key}");
        }
        assert_eq!(slot_of(b"123456789"), 0x31c3);
    }

    #[test]
    fn ranges_are_read_and_what_is_no_range_is_left_out() {
        let told = Address::new("told", 1);
        let answer = b"*6\r\n\
            *4\r\n:0\r\n:99\r\n*2\r\n$4\r\nhost\r\n:7000\r\n*2\r\n$7\r\nreplica\r\n:7001\r\n\
            *3\r\n:100\r\n:100\r\n*3\r\n$-1\r\n:7002\r\n$2\r\nid\r\n\
            *3\r\n:101\r\n:16383\r\n*2\r\n$0\r\n\r\n:7003\r\n\
            *3\r\n:0\r\n:16384\r\n*2\r\n$4\r\nhost\r\n:7004\r\n\
            *3\r\n:9\r\n:8\r\n*2\r\n$4\r\nhost\r\n:7004\r\n\
            *3\r\n:0\r\n:16383\r\n*2\r\n$1\r\n?\r\n:7005\r\n";
        let ranges = Range::parse(parse_redis_value(answer).unwrap(), &told);
        let expected = [
            Range { first: 0, last: 99, address: Address::new("host", 7000) },
            Range { first: 100, last: 100, address: Address::new("told", 7002) },
            Range { first: 101, last: 16383, address: Address::new("told", 7003) },
        ];
        assert_eq!(ranges, expected);
        assert_eq!(Range::parse(Value::Okay, &told), []);
    }
}
