// Any bytes as TCP options: parsing ends, stays inside them, and what it understood survives being written and read again.
#include <cstddef>
#include <cstdlib>
#include <span>

#include "libtto/wire/tcp_options.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tto::wire;
  if (size == 0) return 0;
  const bool is_syn = (data[0] & 1) != 0;
  const size_t most = data[0] & 2 ? kMaxTcpOptionsBytes : size - 1;
  const std::span<const uint8_t> field(data + 1, size - 1 < most ? size - 1 : most);
  TcpOptions o = parse_tcp_options(field, is_syn);
  if (!is_syn && (o.mss != 0 || o.has_window_scale || o.sack_permitted)) std::abort();
  if (is_syn && o.sack_count != 0) std::abort();
  const size_t blocks = sack_blocks_that_fit(o);
  if (o.sack_count > blocks) o.sack_count = static_cast<uint8_t>(blocks);
  for (size_t i = o.sack_count; i < o.sack.size(); ++i) o.sack[i] = {};
  if (o.sack_count > o.sack.size()) std::abort();
  uint8_t room[kMaxTcpOptionsBytes];
  const size_t bytes = emit_tcp_options(o, room);
  if (bytes != tcp_options_bytes(o) || bytes > sizeof room || bytes % 4 != 0) std::abort();
  if (!(parse_tcp_options({room, bytes}, is_syn) == o)) std::abort();
  return 0;
}
