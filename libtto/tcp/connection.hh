// One TCP connection as a sans-IO engine (RFC 9293 and the RFCs listed in docs/architecture.md).
//
// It reads no clock, makes no system call, never allocates and never sees payload. It deals in 64-bit stream offsets
// (base/byte_range.hh); whoever owns it maps offsets to buffers. Everything it wants is said by next_output().
//
//   told                                      asked
//   on_segment(seg, now) -> Verdict           next_output(now) -> Emit | WaitUntil | Idle
//   on_deadline(now)                          on_emitted(emit, sent_to, now)   commits an Emit
//   app_write / app_consumed / app_shutdown / app_close / app_abort
//
// Threads: none of its own; all calls under the owning stack's lock.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/time.hh"
#include "libtto/memory/region_layout.h"
#include "libtto/tcp/segment.hh"
#include "libtto/tcp/state.hh"

namespace tto::tcp {

/// What a connection is made with. Defaults are Linux's; the owner fills them from the placeholder socket and the
/// namespace's sysctls.
struct ConnectionConfig {
  uint32_t iss = 0;                 // from tcp/isn.hh
  uint16_t mtu_bytes = 1500;        // interface MTU (announced MSS: R2)
  uint16_t path_mtu_bytes = 1500;
  bool is_v6 = false;
  uint32_t receive_buffer_bytes = 131072;  // current limit; may grow by set_receive_buffer
  uint8_t receive_window_scale = 7;
  bool timestamps = true;
  uint32_t ts_offset = 0;           // TSval = now in ms + this
  bool sack = true;
  bool window_scaling = true;
  bool ecn = false;
  bool nodelay = false;
  bool cork = false;
  uint8_t syn_retries = 6;
  uint8_t synack_retries = 5;
  uint8_t retries2 = 15;
  uint8_t orphan_retries = 8;
  Duration user_timeout{};          // 0: R2 decides
  bool keepalive = false;
  Duration keepalive_idle = seconds(7200);
  Duration keepalive_interval = seconds(75);
  uint8_t keepalive_probes = 9;
  Duration fin_timeout = seconds(60);
  Duration time_wait = seconds(60);
  Duration delayed_ack = milliseconds(40);
  Duration min_rto = milliseconds(200);
  uint32_t initial_window_segments = 10;
  bool slow_start_after_idle = true;
  enum class Congestion : uint8_t { kCubic, kReno } congestion = Congestion::kCubic;
};

/// What became of a received segment.
struct Verdict {
  /// The part of the segment's payload to keep, empty: none. Out-of-order parts are kept too; what is already held
  /// inside it is trimmed by the receive queue (first copy wins).
  ByteRange keep;
  enum class Fate : uint8_t { kAccepted, kOutOfWindow, kBadAck, kPaws, kNoAck, kChallenged, kReset, kTrimmed, kClosed } fate =
      Fate::kAccepted;
};

struct Output {
  enum class Kind : uint8_t { kEmit, kWaitUntil, kIdle } kind = Kind::kIdle;
  Instant at = kNever;  // kWaitUntil: the earliest deadline
  SegmentOut segment;   // kEmit
};

/// Conditions the socket layer turns into readiness and errno; level-triggered, read at any time.
struct Events {
  bool established = false;   // reached ESTABLISHED (or beyond) at some time
  bool peer_closed = false;   // FIN received and in order: EOF after the readable bytes
  bool closed = false;        // CLOSED or TIME-WAIT: the connection is over for the application
  int error = 0;              // errno: ECONNRESET, ETIMEDOUT, ECONNREFUSED, EPIPE…; sticky until taken
  int soft_error = 0;         // from ICMP (R78)
  bool urgent_pending = false;
};

/// Figures for tcp_info and the stats tool.
struct Figures {
  Duration srtt{}, rttvar{}, rto{};
  uint32_t cwnd_bytes = 0, ssthresh_bytes = 0, mss_bytes = 0, snd_wnd_bytes = 0, rcv_wnd_bytes = 0;
  uint64_t segments_sent = 0, segments_received = 0, retransmitted_segments = 0, rto_expirations = 0;
  uint64_t out_of_order_segments = 0, duplicate_acks = 0;
};

class Connection {
 public:
  // --- opening -----------------------------------------------------------------------------------------------------
  /// Active open: the SYN comes out of the next next_output().
  void open_active(const ConnectionConfig& config, Instant now);
  /// Passive open: `syn` is the SYN that a listener accepted; the SYN-ACK comes out of the next next_output().
  void open_passive(const ConnectionConfig& config, const SegmentIn& syn, Instant now);

  // --- told --------------------------------------------------------------------------------------------------------
  Verdict on_segment(const SegmentIn& segment, Instant now);
  void on_deadline(Instant now);
  /// ICMP unreachable and time exceeded, already matched to this connection; `quoted` is the quoted sequence number.
  void on_icmp_error(int error, bool is_hard, wire::Seq32 quoted, Instant now);
  /// Path MTU learned (bytes of the IP packet). Ignored unless `quoted` lies in [snd.una, snd.nxt) (R79).
  void on_path_mtu(uint16_t mtu_bytes, wire::Seq32 quoted, Instant now);

  /// `bytes` were appended to the send queue. `more`: MSG_MORE; the call's last byte gets PSH otherwise.
  void app_write(uint64_t bytes, bool more, Instant now);
  /// The application took `bytes` out of the receive queue; may cause a window update.
  void app_consumed(uint64_t bytes, Instant now);
  /// shutdown(SHUT_WR): FIN after what was written.
  void app_shutdown_write(Instant now);
  /// close(): the application will neither read nor write again. With unread or later arriving data: RST (R58).
  void app_close(bool unread_data, Instant now);
  /// RST now (SO_LINGER {1,0}, or the stack gives up).
  void app_abort(Instant now);

  // --- asked -------------------------------------------------------------------------------------------------------
  /// What to do next. Changes nothing: an Emit that could not be sent is simply asked for again.
  Output next_output(Instant now) const;
  /// The emitted segment went out with payload up to `sent_to` (<= segment.payload.end; the send queue may have cut
  /// it shorter at a buffer boundary; if it was cut, FIN and PSH were not sent).
  void on_emitted(const Output& output, StreamOffset sent_to, Instant now);

  State state() const;
  Events events() const;
  /// Reads and clears events().error (SO_ERROR).
  int take_error();
  int take_soft_error();

  StreamOffset snd_una() const;    // first byte not acknowledged: send buffers below it may go
  StreamOffset snd_nxt() const;
  StreamOffset snd_end() const;    // after the last byte written
  StreamOffset first_send_byte() const;  // iss + 1, widened
  StreamOffset first_receive_byte() const;  // irs + 1, widened
  /// In-order payload received so far: the receive queue is readable up to here (FIN not counted).
  StreamOffset receive_end() const;
  StreamOffset rcv_nxt() const;    // FIN counted
  uint32_t effective_mss() const;  // payload bytes of a full segment with the options in use
  bool fin_acked() const;
  /// Changes after the open; take effect at the next output.
  void set_nodelay(bool on);
  void set_cork(bool on);
  void set_keepalive(bool on, Duration idle, Duration interval, uint8_t probes, Instant now);
  void set_user_timeout(Duration timeout);
  /// The buffer may hold this much in all; the announced right edge never moves left (R46).
  void set_receive_buffer(uint32_t bytes);
  /// True-size pressure: bytes of buffer used beyond payload, deducted from what is announced.
  void set_receive_overhead(uint32_t bytes);
  bool quick_ack_pending() const;
  Figures figures() const;
  /// Fills the engine's part of the export record (sequence numbers, windows, options).
  void fill_record(tto_connection_record& record) const;

 private:
  // The parts: control block, rtt, congestion, recovery, scoreboard, reassembly, deadlines.
};

}  // namespace tto::tcp
