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
#include "libtto/tcp/ack_policy.hh"
#include "libtto/tcp/congestion.hh"
#include "libtto/tcp/connection_config.hh"
#include "libtto/tcp/control_block.hh"
#include "libtto/tcp/deadlines.hh"
#include "libtto/tcp/ecn.hh"
#include "libtto/tcp/handshake.hh"
#include "libtto/tcp/path_mtu.hh"
#include "libtto/tcp/reassembly.hh"
#include "libtto/tcp/recovery.hh"
#include "libtto/tcp/rtt.hh"
#include "libtto/tcp/segment.hh"
#include "libtto/tcp/state.hh"
#include "libtto/tcp/tail_probe.hh"
#include "libtto/tcp/undo.hh"

namespace tto::tcp {

/// What became of a received segment.
struct Verdict {
  /// The part of the segment's payload to keep, empty: none. Out-of-order parts are kept too; what is already held
  /// inside it is trimmed by the receive queue (first copy wins).
  ByteRange keep;
  enum class Fate : uint8_t {
    kAccepted,
    kOutOfWindow,
    kBadAck,
    kPaws,
    kNoAck,
    kChallenged,
    kReset,
    kTrimmed,
    kClosed
  } fate = Fate::kAccepted;
};

struct Output {
  enum class Kind : uint8_t { kEmit, kWaitUntil, kIdle } kind = Kind::kIdle;
  Instant at = kNever;  // kWaitUntil: the earliest deadline
  SegmentOut segment;   // kEmit
};

/// Conditions the socket layer turns into readiness and errno; level-triggered, read at any time.
struct Events {
  bool established = false;  // reached ESTABLISHED (or beyond) at some time
  bool peer_closed = false;  // FIN received and in order: EOF after the readable bytes
  bool closed = false;       // CLOSED or TIME-WAIT: the connection is over for the application
  int error = 0;             // errno: ECONNRESET, ETIMEDOUT, ECONNREFUSED, EPIPE…; sticky until taken
  int soft_error = 0;        // from ICMP (R78)
};

/// Figures for tcp_info and the stats tool.
struct Figures {
  Duration srtt{}, rttvar{}, rto{};
  uint32_t cwnd_bytes = 0, ssthresh_bytes = 0, mss_bytes = 0, snd_wnd_bytes = 0, rcv_wnd_bytes = 0;
  uint32_t path_mtu_bytes = 0;
  uint64_t segments_sent = 0, segments_received = 0, retransmitted_segments = 0, rto_expirations = 0;
  uint64_t out_of_order_segments = 0, duplicate_acks = 0;
  bool is_ecn_agreed = false;
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
  /// This host has no way to the peer (any more): the reason to give if the connection dies of it.
  void on_unreachable(int error);
  /// Path MTU learned (bytes of the IP packet). Ignored unless `quoted` lies in [snd.una, snd.nxt) (R79).
  void on_path_mtu(uint16_t mtu_bytes, wire::Seq32 quoted, Instant now);
  /// The same from the routing table, which nobody can forge: counts with nothing in flight too.
  void on_route_mtu(uint16_t mtu_bytes, Instant now);

  /// `bytes` were appended to the send queue. `more`: MSG_MORE; the call's last byte gets PSH otherwise.
  void app_write(uint64_t bytes, bool more, Instant now);
  /// The last byte written is urgent (MSG_OOB).
  void app_mark_urgent(Instant now);
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

  StreamOffset snd_una() const;  // first byte not acknowledged: send buffers below it may go
  StreamOffset snd_nxt() const;
  StreamOffset snd_end() const;             // after the last byte written
  StreamOffset first_send_byte() const;     // iss + 1, widened
  StreamOffset first_receive_byte() const;  // irs + 1, widened
  /// In-order payload received so far: the receive queue is readable up to here (FIN not counted).
  StreamOffset receive_end() const;
  StreamOffset rcv_nxt() const;  // FIN counted
  /// The byte that the peer marked last as urgent, whether it has arrived or not; 0: none so far (R52).
  StreamOffset urgent_mark() const;
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
  /// At most this much is announced beyond what has arrived; never less than two units of the window scale. What was
  /// announced before stays announced.
  void set_receive_window_limit(uint64_t bytes);
  uint64_t receive_window() const;  // announced and not arrived
  bool quick_ack_pending() const;
  /// The acknowledgement that is due only says at once what a segment of ours could say a moment later: of the handshake,
  /// of a first segment, of a FIN. The owner may let it ride on what the application sends next.
  bool ack_may_ride() const { return ack_due_ && ack_may_ride_; }
  /// Of the timers that are set; kNever: none is.
  Instant next_deadline() const { return timers_.earliest(); }
  Figures figures() const;
  /// TIME-WAIT only: `syn` is new enough to open a new connection on this tuple (R57; RFC 6191). The owner then drops
  /// this one and hands the SYN to the listener.
  bool accepts_new_syn(const SegmentIn& syn) const;
  /// Fills the engine's part of the export record (sequence numbers, windows, options).
  void fill_record(tto_connection_record& record) const;

 private:
  using Fate = Verdict::Fate;
  struct Arrival;  // a segment with its numbers widened (input.cc)

  // connection.cc
  void begin(const ConnectionConfig& config, Instant now);
  void adopt(const Agreed& agreed, const SegmentIn& syn, Instant now);
  void enter_established(bool syn_was_resent, Instant now);
  void finish(int error);
  void abort(int error);
  void start_fin();
  void update_mss();
  void enter_time_wait(Instant now);
  bool is_synchronized() const { return state_ >= State::kEstablished; }
  bool may_receive_data() const;
  uint32_t timestamp_now(Instant now) const;

  // input.cc: RFC 9293 §3.10.7, in its order. Each step returns whether the next may run.
  Verdict in_syn_sent(const SegmentIn& segment, Instant now);
  Verdict in_later_states(const SegmentIn& segment, Instant now);
  bool check_sequence(Arrival& a, Verdict& v);
  bool is_acceptable(const Arrival& a) const;
  bool check_paws(const Arrival& a, Verdict& v);
  bool check_rst(const Arrival& a, Verdict& v);
  bool check_syn(Arrival& a, Verdict& v);
  bool check_ack(Arrival& a, Verdict& v);
  bool check_ack_in_syn_received(const Arrival& a, Verdict& v);
  bool take_payload(Arrival& a, Verdict& v);
  void trim(Arrival& a);
  void check_urgent(const Arrival& a);
  void check_fin(const Arrival& a);
  void on_reset();
  void refuse(const Arrival& a);
  void challenge(Instant now);
  void owe_ack() {
    ack_due_ = true;
    ack_may_ride_ = false;
  }
  void owe_quick_ack() {
    ack_may_ride_ = ack_may_ride_ || !ack_due_;
    ack_due_ = true;
  }
  // ack_input.cc: what a valid acknowledgement does.
  void on_acknowledgement(const Arrival& a);
  void on_newly_acked(const Arrival& a);
  void update_send_window(const Arrival& a, bool acks_new_data);
  void take_rtt_sample(const Arrival& a);
  Rack::Clock rack_clock(Instant now) const;
  Rack::Clock rack_clock(const Arrival& a) const;
  void on_probe_news(const Arrival& a, const Recovery::SackNews& news, StreamOffset una_before);
  void reduce_window(Instant now);
  void look_for_needless_loss(const Arrival& a, const Recovery::SackNews& news, StreamOffset una_before);
  void undo_loss();
  void on_congestion_echo(uint64_t flight_before, Instant now);
  uint32_t duplicates_in(const Arrival& a, uint64_t newly_sacked) const;
  void adjust_window(const Recovery::Outcome& outcome, uint64_t acked_bytes, bool was_limited, Instant now);
  void on_fin_acked(Instant now);

  // output.cc
  void fill_reset(SegmentOut& out) const;
  bool next_segment(SegmentOut& out, Instant now) const;
  void fill_syn(SegmentOut& out, Instant now) const;
  bool next_retransmission(SegmentOut& out, Instant now) const;
  bool next_tail_probe(SegmentOut& out, Instant now) const;
  void fill_resent(SegmentOut& out, ByteRange range) const;
  bool next_new_data(SegmentOut& out, Instant now) const;
  void mark_new_data(SegmentOut& out) const;
  void mark_urgent(SegmentOut& out) const;
  void fill_header(SegmentOut& out, Instant now) const;
  uint64_t sendable_bytes(uint64_t mss) const;
  bool may_send_partial(uint64_t bytes, bool ends_data) const;
  StreamOffset acceptable_seq() const;
  StreamOffset next_edge() const;
  uint16_t window_field() const;
  bool is_fin_pending() const { return snd_.fin_queued && !snd_.fin_sent(); }
  // commit.cc: what an emission changes.
  void on_payload_emitted(const SegmentOut& out, StreamOffset sent_to, Instant now);
  void on_new_data_sent(ByteRange sent, uint32_t mss_bytes, Instant now);
  void on_syn_emitted(Instant now);
  void on_ack_emitted(const SegmentOut& out);

  // timers.cc
  void rearm(Instant now);
  void arm_retransmit(Instant now);
  void arm_tail_probe(Instant now);
  void on_reordering_timeout(Instant now);
  void on_tail_probe_timeout(Instant now);
  void on_retransmit_timeout(Instant now);
  void on_persist_timeout(Instant now);
  void on_keepalive_timeout(Instant now);
  void arm_keepalive(Instant now);
  void on_syn_timeout(Instant now);
  bool is_out_of_patience(Instant now) const;
  // mtu_search.cc
  uint32_t header_bytes() const;  // IP and TCP, with the options of a data segment
  void begin_mtu_search();
  uint16_t base_mtu() const;
  void set_path_mtu(uint16_t mtu_bytes);
  void look_for_black_hole(Instant now);
  uint32_t next_mtu_probe() const;
  void on_mtu_probe_acked(Instant now);
  bool is_mtu_probe_lost(Instant now);

  bool is_window_blocked() const;

  ConnectionConfig config_;
  Agreed agreed_;
  State state_ = State::kClosed;
  uint32_t mss_ = 536;  // effective_mss()
  SendControl snd_;
  ReceiveControl rcv_;
  Deadlines timers_;
  RttEstimator rtt_;
  AckPolicy ack_policy_;
  Congestion congestion_;
  Recovery recovery_;
  TailProbe probe_;
  Undo undo_;
  Ecn ecn_;
  PathMtu path_mtu_;
  Reassembly reassembly_;
  Events events_;
  uint64_t segments_sent_ = 0, segments_received_ = 0, retransmitted_segments_ = 0, rto_expirations_ = 0;
  uint64_t out_of_order_segments_ = 0, duplicate_acks_ = 0;

  // What next_output() has to say besides data.
  StreamOffset reset_seq_ = 0;  // a RST that leaves the connection alive (R11, R14)
  bool has_reply_reset_ = false;
  bool has_final_reset_ = false;  // a RST that ends it: state is CLOSED already
  bool syn_due_ = false;
  bool ack_due_ = false;
  bool ack_may_ride_ = false;   // ack_may_ride()
  bool probe_due_ = false;  // zero window or keep-alive: SEQ = SND.UNA - 1
  bool tail_probe_due_ = false;
  bool is_easing_ = false;      // the peer told of congestion: the window sinks to ssthresh as data is delivered
  bool force_partial_ = false;  // SWS override: send what the window allows, however small
  bool more_ = false;           // the last write had MSG_MORE
  bool is_passive_ = false;
  bool is_orphan_ = false;  // the application is gone
  uint32_t resent_ts_ = 0;  // our timestamp clock at the last retransmission
  uint8_t syn_retries_done_ = 0;
  uint8_t probes_unanswered_ = 0;
  uint8_t persist_backoff_ = 0;
  uint8_t challenge_tokens_ = 0;
  StreamOffset cork_until_ = 0;          // held bytes below go out although corked
  StreamOffset cwnd_limited_until_ = 0;  // data up to here left with the congestion window full
  StreamOffset timed_end_ = 0;           // the acknowledgement that yields the RTT sample, 0: none
  Instant timed_at_{};
  Instant challenge_refilled_at_{};
  Instant last_received_at_{};
  Instant last_sent_at_{};             // data
  Instant unanswered_since_ = kNever;  // first timeout without an answer (R39)
};

}  // namespace tto::tcp
