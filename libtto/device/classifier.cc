#include "libtto/device/classifier.hh"

#include <algorithm>

#include "libtto/wire/tcp_flags.hh"

namespace tto::device {

using port::FrameSlice;
using stats::Counter;
using stats::DropReason;

size_t chain_length(std::span<const FrameSlice> slices) {
  for (size_t i = 0; i < slices.size(); ++i) {
    if (!slices[i].more) return i + 1;
  }
  return 0;
}

bool Classifier::classify(std::span<const FrameSlice> chain, bool accepts_partial_checksum, Arrival& out) {
  uint32_t total_bytes = 0;
  bool in_bounds = true;
  for (const FrameSlice& slice : chain) {
    total_bytes += slice.length;
    in_bounds = in_bounds && uint32_t{slice.offset} + slice.length <= memory::kFrameBytes;
  }
  counters_.add_owned(Counter::rx_frame);
  counters_.add_owned(Counter::rx_frame_byte, total_bytes);
  if (!in_bounds) {
    drop(chain, DropReason::k_bad_chain);
    return false;
  }
  const FrameSlice& first = chain.front();
  out.first_piece = {reinterpret_cast<const uint8_t*>(pool_.data(first.frame)) + first.offset, first.length};
  const DropReason reason = wire::parse_frame_into(out.first_piece, total_bytes, out.view);
  if (reason != DropReason::kNone) {
    drop(chain, reason);
    return false;
  }
  out.completion = {};
  out.completion.source_mac = out.view.source_mac;
  out.completion.destination_mac = out.view.destination_mac;
  out.completion.key.vlan = out.view.vlan;
  out.tail = {};
  if (out.view.kind == wire::FrameView::Kind::kIcmpError) {
    fill_icmp(out);
    for (const FrameSlice& slice : chain) pool_.drop(slice.frame, TTO_FRAME_POSTED);
    return true;
  }
  fill_segment(out);
  out.is_verified = accepts_partial_checksum && wire::has_partial_checksum(out.view);
  link_payload(chain, out);
  return true;
}

void Classifier::fill_segment(Arrival& out) const {
  const wire::FrameView& view = out.view;
  tcp::SegmentIn& segment = out.completion.segment;
  out.completion.key.tuple = view.tuple();
  segment.seq = view.tcp.seq;
  segment.ack = view.tcp.ack;
  segment.flags = view.tcp.flags;
  segment.ip_tos = view.tos;
  segment.ip_ttl = view.ttl;
  segment.window = view.tcp.window;
  segment.urgent_pointer = view.tcp.urgent_pointer;
  segment.payload_bytes = view.payload_bytes;
  segment.largest_segment_bytes = view.payload_bytes;
  segment.options = view.tcp.options;
}

void Classifier::fill_icmp(Arrival& out) const {
  const wire::IcmpError& icmp = out.view.icmp;
  out.completion.target = ReceiveCompletion::Target::kIcmp;
  out.completion.key.tuple = icmp.tuple;
  out.completion.icmp = {icmp.type, icmp.code, out.view.ip_version == wire::IpVersion::kV6, icmp.mtu_bytes,
                         icmp.quoted_seq};
  out.is_verified = true;
}

/// Frames that hold payload are linked in order, each with its part and the low half of its stream position; the rest
/// (headers alone, Ethernet padding) go back to the pool. The first piece is kept in any case: its headers are still
/// needed for the checksum (payload.cc lets it go).
void Classifier::link_payload(std::span<const FrameSlice> chain, Arrival& out) {
  uint32_t left = out.view.payload_bytes;
  uint32_t skip = out.view.payload_offset;
  uint32_t seq = out.view.tcp.seq.raw + ((out.view.tcp.flags & wire::kSyn) != 0 ? 1 : 0);
  for (const FrameSlice& slice : chain) {
    const uint32_t skipped = std::min<uint32_t>(skip, slice.length);
    const uint32_t bytes = std::min<uint32_t>(slice.length - skipped, left);
    skip -= skipped;
    if (bytes == 0 && &slice != &chain.front()) {
      pool_.drop(slice.frame, TTO_FRAME_POSTED);
      continue;
    }
    tto_frame_desc& desc = pool_.desc(slice.frame);
    desc.state = TTO_FRAME_RECEIVED;
    desc.next = TTO_FRAME_NULL;
    desc.data_offset = static_cast<uint16_t>(slice.offset + skipped);
    desc.data_bytes = static_cast<uint16_t>(bytes);
    desc.stream_offset = seq;
    if (out.tail) {
      pool_.desc(out.tail).next = slice.frame.raw;
    } else {
      out.completion.head = slice.frame;
    }
    out.tail = slice.frame;
    ++out.completion.frame_count;
    left -= bytes;
    seq += bytes;
  }
}

void Classifier::drop(std::span<const FrameSlice> chain, DropReason reason) {
  counters_.drop(reason);
  for (const FrameSlice& slice : chain) pool_.drop(slice.frame, TTO_FRAME_POSTED);
}

}  // namespace tto::device
