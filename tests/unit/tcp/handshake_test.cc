// CONFORMANCE R2–R17: opening, options, half-open connections.
#include "libtto/tcp/isn.hh"
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

class Handshake : public EngineTest {};

TEST_F(Handshake, R2_syn_announces_the_interface_mtu_less_headers) {
  config.path_mtu_bytes = 1000;
  c.open_active(config, now);
  EXPECT_EQ(one().options.mss, 1460);
  config.is_v6 = true;
  config.mtu_bytes = 9000;
  c.open_active(config, now);
  EXPECT_EQ(one().options.mss, 8940);
  c.open_passive(config, make_syn(kSyn), now);
  EXPECT_EQ(one().options.mss, 8940);
}

TEST_F(Handshake, R3_a_peer_without_mss_gets_536_or_1220) {
  for (bool v6 : {false, true}) {
    plain();
    syn_options_of_peer = {};
    config.is_v6 = v6;
    connect();
    write(5000);
    const auto sent = out();
    ASSERT_FALSE(sent.empty());
    for (const Sent& s : sent) EXPECT_EQ(s.mss_bytes, v6 ? 1220u : 536u);
    EXPECT_EQ(c.effective_mss(), v6 ? 1220u : 536u);
  }
}

TEST_F(Handshake, R4_timestamps_take_twelve_bytes_of_a_segment) {
  connect();
  EXPECT_EQ(c.effective_mss(), 1448u);
  write(3000);
  EXPECT_EQ(out()[0].mss_bytes, 1448u);
}

TEST_F(Handshake, R4_the_path_mtu_limits_what_is_sent) {
  config.path_mtu_bytes = 1400;
  connect();
  EXPECT_EQ(c.effective_mss(), 1400u - 40 - 12);
}

TEST_F(Handshake, R5_mss_and_sack_permitted_are_ignored_outside_syns) {
  connect();
  SegmentIn s = make(kAck, 1, 1);
  s.options.mss = 100;
  s.options.sack_permitted = true;
  in(s);
  EXPECT_EQ(c.effective_mss(), 1448u);
  write(100);
  const Sent d = one();
  EXPECT_EQ(d.options.mss, 0);
  EXPECT_FALSE(d.options.sack_permitted);
  EXPECT_FALSE(d.options.has_window_scale);
}

TEST_F(Handshake, R6_windows_of_syns_are_never_scaled) {
  peer_window = 1000;
  c.open_active(config, now);
  const Sent syn = one();
  EXPECT_EQ(syn.window, 65535);
  EXPECT_EQ(syn.options.window_scale, 7);
  in(make_syn(kSyn | kAck));
  EXPECT_EQ(c.figures().snd_wnd_bytes, 1000u);
  one();
  in(kAck, 1, 1);
  EXPECT_EQ(c.figures().snd_wnd_bytes, 1000u << 7);
}

TEST_F(Handshake, R6_a_shift_above_14_is_used_as_14) {
  syn_options_of_peer.window_scale = 200;
  connect();
  peer_window = 1;
  in(kAck, 1, 1);
  EXPECT_EQ(c.figures().snd_wnd_bytes, 1u << 14);
}

TEST_F(Handshake, R6_without_the_option_no_window_is_scaled) {
  syn_options_of_peer.has_window_scale = false;
  connect();
  peer_window = 500;
  in(kAck, 1, 1, 10);
  EXPECT_EQ(c.figures().snd_wnd_bytes, 500u);
  EXPECT_EQ(one().window, 65525);
}

TEST_F(Handshake, R7_timestamps_in_every_segment_once_agreed) {
  c.open_active(config, now);
  const Sent syn = one();
  ASSERT_TRUE(syn.options.has_timestamps);
  EXPECT_EQ(syn.options.ts_ecr, 0u);
  in(make_syn(kSyn | kAck));
  EXPECT_TRUE(one().options.has_timestamps);
  write(10);
  EXPECT_TRUE(one().options.has_timestamps);
  c.app_shutdown_write(now);
  const Sent fin = one();
  EXPECT_TRUE(fin.has(kFin));
  EXPECT_TRUE(fin.options.has_timestamps);
  EXPECT_EQ(fin.options.ts_ecr, peer_ts);
}

TEST_F(Handshake, R7_the_syn_ack_has_them_only_if_the_syn_had) {
  c.open_passive(config, make_syn(kSyn), now);
  const Sent with = one();
  EXPECT_TRUE(with.options.has_timestamps);
  EXPECT_EQ(with.options.ts_ecr, peer_ts);
  EXPECT_TRUE(with.options.sack_permitted);
  peer_timestamps = false;
  syn_options_of_peer = {};
  c.open_passive(config, make_syn(kSyn), now);
  const Sent without = one();
  EXPECT_FALSE(without.options.has_timestamps);
  EXPECT_FALSE(without.options.sack_permitted);
  EXPECT_FALSE(without.options.has_window_scale);
}

TEST_F(Handshake, R8_a_later_segment_without_timestamps_is_not_reset) {
  connect();
  peer_timestamps = false;
  in(kAck, 1, 1, 100);
  for (const Sent& s : out()) EXPECT_FALSE(s.has(kRst));
  EXPECT_EQ(c.state(), State::kEstablished);
}

TEST_F(Handshake, R9_ecn_bits_on_a_syn_change_nothing) {
  SegmentIn syn = make_syn(kSyn);
  syn.flags |= wire::kEce | wire::kCwr;
  EXPECT_EQ(at_listener(syn), ListenAction::kOpen);
  c.open_passive(config, syn, now);
  EXPECT_EQ(one().flags, kSyn | kAck);
}

TEST_F(Handshake, R10_simultaneous_open) {
  c.open_active(config, now);
  one();
  in(make_syn(kSyn));
  EXPECT_EQ(c.state(), State::kSynReceived);
  const Sent answer = one();
  EXPECT_EQ(answer.flags, kSyn | kAck);
  EXPECT_EQ(answer.seq, 0);
  EXPECT_EQ(answer.ack, 1);
  in(make_syn(kSyn | kAck));
  EXPECT_EQ(c.state(), State::kEstablished);
}

TEST_F(Handshake, R10_a_reset_returns_a_passive_open_silently) {
  c.open_passive(config, make_syn(kSyn), now);
  one();
  in(kRst, 1, 0);
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_EQ(c.events().error, 0);
  silence();
}

TEST_F(Handshake, R10_a_reset_refuses_an_active_open) {
  c.open_active(config, now);
  one();
  in(make_syn(kSyn));
  one();
  in(kRst, 1, 0);
  EXPECT_EQ(c.events().error, ECONNREFUSED);
  c.open_active(config, now);
  one();
  in(kRst | kAck, 0, 1);
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_EQ(c.events().error, ECONNREFUSED);
}

TEST_F(Handshake, R11_a_wrong_ack_in_syn_sent_is_reset_and_the_attempt_goes_on) {
  c.open_active(config, now);
  one();
  for (int64_t ack : {0, 2, -5, 1000}) {
    in(make_syn(kSyn | kAck, ack));
    const Sent r = one();
    EXPECT_EQ(r.flags, kRst);
    EXPECT_EQ(r.seq, ack);
    EXPECT_EQ(c.state(), State::kSynSent);
  }
  in(kRst | kAck, 0, 2);  // a RST with a wrong ACK counts for nothing
  in(kRst, 0, 0);         // nor one without
  silence();
  EXPECT_EQ(c.state(), State::kSynSent);
  in(make_syn(kSyn | kAck));
  EXPECT_EQ(c.state(), State::kEstablished);
}

TEST_F(Handshake, R12_a_closed_port_answers_with_reset) {
  SegmentOut r;
  SegmentIn s = make(kAck | kFin, 77, 5, 10);
  ASSERT_TRUE(reset_for(s, r));
  EXPECT_EQ(r.flags, kRst);
  EXPECT_EQ(static_cast<uint32_t>(r.seq), s.ack.raw);
  s = make(kSyn | kFin, 77, 0, 10);
  ASSERT_TRUE(reset_for(s, r));
  EXPECT_EQ(r.flags, kRst | kAck);
  EXPECT_EQ(static_cast<uint32_t>(r.seq), 0u);
  EXPECT_EQ(static_cast<uint32_t>(r.ack), s.seq.raw + 12);
  EXPECT_FALSE(reset_for(make(kRst, 1, 0), r));
  EXPECT_FALSE(reset_for(make(kRst | kAck, 1, 1), r));
}

TEST_F(Handshake, R13_a_listener_resets_acks_and_drops_the_rest) {
  EXPECT_EQ(at_listener(make(kAck, 1, 1)), ListenAction::kReset);
  EXPECT_EQ(at_listener(make(kSyn | kAck, 1, 1)), ListenAction::kReset);
  EXPECT_EQ(at_listener(make(kRst, 1, 1)), ListenAction::kDrop);
  EXPECT_EQ(at_listener(make(kRst | kAck, 1, 1)), ListenAction::kDrop);
  EXPECT_EQ(at_listener(make(kFin, 1, 1)), ListenAction::kDrop);
  EXPECT_EQ(at_listener(make(0, 1, 1)), ListenAction::kDrop);
  EXPECT_EQ(at_listener(make(kSyn | kFin, 1, 1)), ListenAction::kOpen);
  c.open_passive(config, make_syn(kSyn | kFin), now);
  EXPECT_EQ(one().ack, 1);  // the FIN was not taken
  EXPECT_EQ(c.state(), State::kSynReceived);
}

TEST_F(Handshake, R14_a_wrong_ack_in_syn_received_is_reset_without_ack) {
  c.open_passive(config, make_syn(kSyn), now);
  one();
  in(kAck, 1, 2);
  const Sent r = one();
  EXPECT_EQ(r.flags, kRst);
  EXPECT_EQ(r.seq, 2);
  EXPECT_EQ(c.state(), State::kSynReceived);
  in(kAck, 1, 1);
  EXPECT_EQ(c.state(), State::kEstablished);
}

TEST_F(Handshake, R15_a_repeated_syn_repeats_the_same_answer) {
  c.open_passive(config, make_syn(kSyn), now);
  const Sent first = one();
  in(make_syn(kSyn));
  const Sent again = one();
  EXPECT_EQ(again.flags, kSyn | kAck);
  EXPECT_EQ(again.seq, first.seq);
  EXPECT_EQ(again.ack, first.ack);
  EXPECT_EQ(c.state(), State::kSynReceived);
}

TEST(Isn, R16_grows_for_one_tuple_and_is_unrelated_for_others) {
  const IsnSecret secret = {1, 2, 3, 4}, other_secret = {1, 2, 3, 5};
  wire::FourTuple t;
  t.local = t.remote = wire::IpAddress::from_v4(0x0100007f);
  t.local_port = 80;
  t.remote_port = 40000;
  const Instant at{5'000'000'000};
  const uint32_t first = initial_sequence_number(t, secret, at);
  EXPECT_EQ(initial_sequence_number(t, secret, at), first);
  EXPECT_EQ(initial_sequence_number(t, secret, at + microseconds(400)) - first, 100u);
  EXPECT_NE(initial_sequence_number(t, other_secret, at), first);
  // Neighbouring tuples differ in about half of the bits, on average.
  int bits = 0;
  for (uint16_t port = 0; port < 256; ++port) {
    t.remote_port = static_cast<uint16_t>(40001 + port);
    bits += __builtin_popcount(initial_sequence_number(t, secret, at) ^ first);
  }
  EXPECT_NEAR(bits / 256.0, 16.0, 1.5);
}

TEST_F(Handshake, R17_syns_go_again_with_doubling_until_the_retries_are_used_up) {
  config.syn_retries = 6;
  c.open_active(config, now);
  one();
  const Instant start = now;
  Duration gap = seconds(1);
  for (int i = 0; i < 6; ++i) {
    const Instant before = now;
    ASSERT_TRUE(to_deadline());
    EXPECT_EQ((now - before).ns, gap.ns);
    gap = gap * 2;
    const Sent s = one();
    EXPECT_EQ(s.flags, kSyn);
    EXPECT_EQ(s.seq, 0);
  }
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ((now - start).ns, seconds(127).ns);
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_EQ(c.events().error, ETIMEDOUT);
  silence();
}

TEST_F(Handshake, R17_a_lost_syn_leaves_one_segment_and_three_seconds) {
  plain();
  c.open_active(config, now);
  one();
  ASSERT_TRUE(to_deadline());
  one();
  in(make_syn(kSyn | kAck));
  EXPECT_EQ(c.figures().cwnd_bytes, 1000u);
  EXPECT_EQ(c.figures().rto.ns, seconds(3).ns);
}

TEST_F(Handshake, R17_a_syn_ack_goes_again_and_ends_silently) {
  config.synack_retries = 2;
  c.open_passive(config, make_syn(kSyn), now);
  one();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(to_deadline());
    EXPECT_EQ(one().flags, kSyn | kAck);
  }
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_EQ(c.events().error, 0);
}

TEST_F(Handshake, R78_hard_icmp_errors_end_only_an_attempt) {
  c.open_active(config, now);
  one();
  c.on_icmp_error(EHOSTUNREACH, false, {kIss}, now);
  EXPECT_EQ(c.state(), State::kSynSent);
  EXPECT_EQ(c.take_soft_error(), EHOSTUNREACH);
  c.on_icmp_error(ECONNREFUSED, true, {kIss + 5}, now);  // not about our SYN
  EXPECT_EQ(c.state(), State::kSynSent);
  c.on_icmp_error(ECONNREFUSED, true, {kIss}, now);
  EXPECT_EQ(c.events().error, ECONNREFUSED);
  connect();
  write(100);
  out();
  c.on_icmp_error(ECONNREFUSED, true, {kIss + 1}, now);
  EXPECT_EQ(c.state(), State::kEstablished);
  EXPECT_EQ(c.events().soft_error, ECONNREFUSED);
}

TEST_F(Handshake, data_with_the_syn_ack_is_taken) {
  c.open_active(config, now);
  one();
  SegmentIn s = make_syn(kSyn | kAck);
  s.payload_bytes = s.largest_segment_bytes = 100;
  const Verdict v = in(s);
  EXPECT_EQ(v.keep.size(), 100u);
  EXPECT_EQ(one().ack, 101);
}

}  // namespace
}  // namespace tto::tcp
