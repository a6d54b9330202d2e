//! The question for a plan of moves, and its answer.

use crate::read::{Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, MSG_PLAN};

/// One node of the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLoad<'a> {
    /// Text id.
    pub id: &'a str,
    /// Failure zone.
    pub zone: &'a str,
    /// Bytes of ticks it holds.
    pub used_bytes: u64,
    /// Bytes of ticks it may hold.
    pub capacity_bytes: u64,
    /// Processor time; 1,000,000 is one busy core.
    pub cpu_micro: u64,
    /// One of `NODE_*`.
    pub state: u8,
    /// 100 is ordinary.
    pub weight: u32,
}

/// One partition of the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub id: u64,
    /// Bytes of its ticks.
    pub bytes: u64,
    /// Ticks that arrive in a second.
    pub ticks_per_s: u64,
    /// Its owner: index into the nodes.
    pub owner: u32,
    /// `PARTITION_*`.
    pub flags: u32,
}

/// The question: the body of `EV_MIG_PLAN`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest<'a> {
    /// Index of the topology that it describes.
    pub index: u64,
    /// One of `REASON_*`.
    pub reason: u32,
    /// Moves of the largest plan.
    pub max_moves: u32,
    /// The nodes.
    pub nodes: Vec<NodeLoad<'a>>,
    /// The partitions.
    pub partitions: Vec<Partition>,
}

impl<'a> PlanRequest<'a> {
    /// Reads it; each list has at most so many elements.
    ///
    /// # Errors
    /// When it is no such message, or has more.
    pub fn read(bytes: &'a [u8], most: u32) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_PLAN)?;
        let nodes = fields.list(offset_of!(abi::PlanRequest, nodes), most)?;
        let nodes = nodes.iter().map(|fields| {
            Ok(NodeLoad {
                id: fields.text(offset_of!(abi::NodeLoad, id))?,
                zone: fields.text(offset_of!(abi::NodeLoad, zone))?,
                used_bytes: fields.u64(offset_of!(abi::NodeLoad, used_bytes)),
                capacity_bytes: fields.u64(offset_of!(abi::NodeLoad, capacity_bytes)),
                cpu_micro: fields.u64(offset_of!(abi::NodeLoad, cpu_micro)),
                state: fields.u8(offset_of!(abi::NodeLoad, state)),
                weight: fields.u32(offset_of!(abi::NodeLoad, weight)),
            })
        });
        let partitions = fields.list(offset_of!(abi::PlanRequest, partitions), most)?;
        let partitions = partitions.iter().map(|fields| Partition {
            id: fields.u64(offset_of!(abi::Partition, id)),
            bytes: fields.u64(offset_of!(abi::Partition, bytes)),
            ticks_per_s: fields.u64(offset_of!(abi::Partition, ticks_per_s)),
            owner: fields.u32(offset_of!(abi::Partition, owner)),
            flags: fields.u32(offset_of!(abi::Partition, flags)),
        });
        Ok(Self {
            index: fields.u64(offset_of!(abi::PlanRequest, index)),
            reason: fields.u32(offset_of!(abi::PlanRequest, reason)),
            max_moves: fields.u32(offset_of!(abi::PlanRequest, max_moves)),
            nodes: nodes.collect::<Result<_, _>>()?,
            partitions: partitions.collect(),
        })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_PLAN, size_of::<abi::PlanRequest>());
        writer.u64(offset_of!(abi::PlanRequest, index), self.index);
        writer.u32(offset_of!(abi::PlanRequest, reason), self.reason);
        writer.u32(offset_of!(abi::PlanRequest, max_moves), self.max_moves);
        let stride = size_of::<abi::NodeLoad>();
        let first = writer.list(offset_of!(abi::PlanRequest, nodes), self.nodes.len(), stride);
        for (i, node) in self.nodes.iter().enumerate() {
            let at = first + i * stride;
            writer.bytes(at + offset_of!(abi::NodeLoad, id), node.id.as_bytes());
            writer.bytes(at + offset_of!(abi::NodeLoad, zone), node.zone.as_bytes());
            writer.u64(at + offset_of!(abi::NodeLoad, used_bytes), node.used_bytes);
            writer.u64(at + offset_of!(abi::NodeLoad, capacity_bytes), node.capacity_bytes);
            writer.u64(at + offset_of!(abi::NodeLoad, cpu_micro), node.cpu_micro);
            writer.u32(at + offset_of!(abi::NodeLoad, state), node.state.into());
            writer.u32(at + offset_of!(abi::NodeLoad, weight), node.weight);
        }
        let stride = size_of::<abi::Partition>();
        let at = offset_of!(abi::PlanRequest, partitions);
        let first = writer.list(at, self.partitions.len(), stride);
        for (i, partition) in self.partitions.iter().enumerate() {
            let at = first + i * stride;
            writer.u64(at + offset_of!(abi::Partition, id), partition.id);
            writer.u64(at + offset_of!(abi::Partition, bytes), partition.bytes);
            writer.u64(at + offset_of!(abi::Partition, ticks_per_s), partition.ticks_per_s);
            writer.u32(at + offset_of!(abi::Partition, owner), partition.owner);
            writer.u32(at + offset_of!(abi::Partition, flags), partition.flags);
        }
        writer.finish()
    }
}

/// One move of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// The partition's number.
    pub partition: u64,
    /// From: index into the question's nodes.
    pub from: u32,
    /// To: index into the question's nodes.
    pub to: u32,
    /// Higher goes first.
    pub priority: u32,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The question's index.
    pub index: u64,
    /// The moves.
    pub moves: Vec<Move>,
}

impl Plan {
    /// Reads a plan of at most so many moves.
    ///
    /// # Errors
    /// When it is no such message, or has more.
    pub fn read(bytes: &[u8], most: u32) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_PLAN)?;
        let moves = fields.list(offset_of!(abi::Plan, moves), most)?;
        let moves = moves.iter().map(|fields| {
            let flags = fields.u32(offset_of!(abi::Move, flags));
            if flags != 0 {
                return Err(Malformed::Flags(flags));
            }
            Ok(Move {
                partition: fields.u64(offset_of!(abi::Move, partition)),
                from: fields.u32(offset_of!(abi::Move, from)),
                to: fields.u32(offset_of!(abi::Move, to)),
                priority: fields.u32(offset_of!(abi::Move, priority)),
            })
        });
        let index = fields.u64(offset_of!(abi::Plan, index));
        Ok(Self { index, moves: moves.collect::<Result<_, _>>()? })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_PLAN, size_of::<abi::Plan>());
        writer.u64(offset_of!(abi::Plan, index), self.index);
        let stride = size_of::<abi::Move>();
        let first = writer.list(offset_of!(abi::Plan, moves), self.moves.len(), stride);
        for (i, one) in self.moves.iter().enumerate() {
            let at = first + i * stride;
            writer.u64(at + offset_of!(abi::Move, partition), one.partition);
            writer.u32(at + offset_of!(abi::Move, from), one.from);
            writer.u32(at + offset_of!(abi::Move, to), one.to);
            writer.u32(at + offset_of!(abi::Move, priority), one.priority);
        }
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_and_answer_are_read_as_they_were_written() {
        let node = NodeLoad {
            id: "a",
            zone: "z",
            used_bytes: 1,
            capacity_bytes: 2,
            cpu_micro: 3,
            state: 2,
            weight: 100,
        };
        let partition = Partition { id: 9, bytes: 8, ticks_per_s: 7, owner: 0, flags: 1 };
        let request = PlanRequest {
            index: 5,
            reason: abi::REASON_JOINED,
            max_moves: 4,
            nodes: alloc::vec![node, NodeLoad { id: "b", ..NodeLoad::default() }],
            partitions: alloc::vec![partition; 3],
        };
        let bytes = request.write();
        assert_eq!(PlanRequest::read(&bytes, 3), Ok(request));
        let error = PlanRequest::read(&bytes, 2);
        assert_eq!(error, Err(Malformed::TooMany { count: 3, most: 2 }));
        let one = Move { partition: 9, from: 0, to: 1, priority: 3 };
        let plan = Plan { index: 5, moves: alloc::vec![one; 2] };
        assert_eq!(Plan::read(&plan.write(), 2), Ok(plan.clone()));
        assert_eq!(Plan::read(&plan.write(), 1), Err(Malformed::TooMany { count: 2, most: 1 }));
    }
}
