// Any bytes as a frame: parsing stays inside them, and what it accepts obeys the rules of FrameView. The IPv4 header
// checksum is repaired in a copy, or coverage would end at it.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "libtto/wire/arp.hh"
#include "libtto/wire/bytes.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/frame_text.hh"

namespace {

using namespace tto::wire;

void require(bool holds) {
  if (!holds) std::abort();
}

void try_frame(std::span<const uint8_t> piece, uint32_t total_bytes) {
  char text[kFrameTextBytes];
  require(!frame_text(piece, total_bytes, text).empty());
  (void)parse_arp(piece);
  const auto view = parse_frame(piece, total_bytes);
  if (!view) return;
  require(view->payload_offset <= piece.size());
  require(view->payload_offset + view->payload_bytes <= total_bytes);
  require(view->ip_offset < view->tcp_offset && view->tcp_offset < view->payload_offset);
  require(view->source.version() == view->ip_version && view->destination.version() == view->ip_version);
  if (view->kind == FrameView::Kind::kTcp) (void)verify_tcp_checksum(*view, piece, 0, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const std::span<const uint8_t> piece(data, bytes);
  try_frame(piece, static_cast<uint32_t>(bytes));
  try_frame(piece, static_cast<uint32_t>(bytes) + 3000);
  if (bytes >= 34 && load16(data + 12) == kEtherIpv4 && bytes >= 14 + (data[14] & 0xf) * size_t{4}) {
    std::vector<uint8_t> repaired(data, data + bytes);
    store16(&repaired[24], 0);
    store_raw16(&repaired[24], checksum_of(sum_bytes(&repaired[14], (data[14] & 0xf) * size_t{4})));
    try_frame(repaired, static_cast<uint32_t>(bytes));
  }
  return 0;
}
