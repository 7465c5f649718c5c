// The variables of RFC 9293 §3.3.1, under the RFC's names, as 64-bit offsets.
//
//   send:      iss    una ......... nxt ......... end                 una + wnd
//               |SYN   | sent,       | written,    | FIN, if queued       |
//               |      | unacked     | not sent    | takes this number    | right edge the peer allows
//
//   receive:   irs    read ........ nxt ......... edge
//               |SYN   | unread      | may come    | right edge we announced: never moves left
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/time.hh"

namespace tto::tcp {

struct SendControl {
  StreamOffset iss = 0;
  StreamOffset una = 0;
  StreamOffset nxt = 0;
  StreamOffset end = 0;
  uint64_t wnd = 0;
  uint64_t max_wnd = 0;
  StreamOffset wl1 = 0;
  StreamOffset wl2 = 0;
  StreamOffset sml = 0;       // end of the last segment sent that was smaller than a full one (Minshall)
  StreamOffset up = 0;        // RFC 9293 SND.UP, after the urgent byte; at or below una: none
  StreamOffset push_end = 0;  // after the last byte written without MSG_MORE
  uint8_t scale = 0;
  bool fin_queued = false;

  uint64_t flight() const { return nxt - una; }
  StreamOffset window_end() const { return una + wnd; }
  /// After everything that is to be sent, FIN counted.
  StreamOffset stream_end() const { return end + (fin_queued ? 1 : 0); }
  bool fin_sent() const { return fin_queued && nxt > end; }
  bool fin_acked() const { return fin_queued && una > end; }
  bool is_urgent() const { return up > una; }
  uint64_t unsent() const { return nxt < end ? end - nxt : 0; }
};

struct ReceiveControl {
  StreamOffset irs = 0;
  StreamOffset nxt = 0;
  StreamOffset edge = 0;
  StreamOffset granted = 0;        // the edge as last opened; rounding by the scale may carry `edge` a little further
  StreamOffset read = 0;           // next byte the application will take
  StreamOffset fin_at = 0;         // sequence number of a FIN seen, 0: none
  StreamOffset urgent_at = 0;      // the last byte that the peer marked as urgent, 0: none so far
  StreamOffset last_ack_sent = 0;  // RFC 7323 Last.ACK.sent
  Instant ts_recent_at{};
  uint32_t ts_recent = 0;
  uint32_t buffer_bytes = 0;
  uint32_t overhead_bytes = 0;
  uint64_t window_limit = ~uint64_t{0};  // what may be announced at most, whatever the buffer has room for
  uint8_t scale = 0;
  bool fin_received = false;  // in order; counted in nxt

  uint64_t window() const { return edge > nxt ? edge - nxt : 0; }
  StreamOffset data_end() const { return nxt - (fin_received ? 1 : 0); }
};

}  // namespace tto::tcp
