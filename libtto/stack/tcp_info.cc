#include "libtto/stack/tcp_info.hh"

#include <algorithm>

#include "libtto/socket/stream_socket.hh"

namespace tto::stack {

namespace {

/// The kernel's numbers of the states (they are part of TCP_INFO's ABI).
uint8_t kernel_state(tcp::State state) {
  switch (state) {
    case tcp::State::kEstablished: return 1;
    case tcp::State::kSynSent: return 2;
    case tcp::State::kSynReceived: return 3;
    case tcp::State::kFinWait1: return 4;
    case tcp::State::kFinWait2: return 5;
    case tcp::State::kTimeWait: return 6;
    case tcp::State::kClosed: return 7;
    case tcp::State::kCloseWait: return 8;
    case tcp::State::kLastAck: return 9;
    case tcp::State::kListen: return 10;
    case tcp::State::kClosing: return 11;
  }
  return 7;
}

uint32_t micros(Duration d) { return static_cast<uint32_t>(std::clamp<int64_t>(d.micros(), 0, UINT32_MAX)); }

}  // namespace

tcp_info tcp_info_of(socket::StreamSocket& stream) {
  tcp_info info{};
  tcp::Connection& connection = stream.connection();
  const tcp::Figures f = connection.figures();
  tto_connection_record record{};
  connection.fill_record(record);
  info.tcpi_state = kernel_state(connection.state());
  if ((record.flags & TTO_REC_TIMESTAMPS) != 0) info.tcpi_options |= TCPI_OPT_TIMESTAMPS;
  if ((record.flags & TTO_REC_SACK) != 0) info.tcpi_options |= TCPI_OPT_SACK;
  if (record.snd_wscale != 0 || record.rcv_wscale != 0) info.tcpi_options |= TCPI_OPT_WSCALE;
  if (f.is_ecn_agreed) info.tcpi_options |= TCPI_OPT_ECN;
  info.tcpi_snd_wscale = record.snd_wscale & 0xf;
  info.tcpi_rcv_wscale = record.rcv_wscale & 0xf;
  const uint32_t mss = std::max<uint32_t>(f.mss_bytes, 1);
  info.tcpi_rto = micros(f.rto);
  info.tcpi_ato = 40'000;
  info.tcpi_snd_mss = f.mss_bytes;
  info.tcpi_rcv_mss = f.mss_bytes;
  info.tcpi_advmss = f.mss_bytes;
  info.tcpi_pmtu = f.path_mtu_bytes;
  info.tcpi_unacked = static_cast<uint32_t>((connection.snd_nxt() - connection.snd_una() + mss - 1) / mss);
  info.tcpi_rtt = micros(f.srtt);
  info.tcpi_rttvar = micros(f.rttvar);
  info.tcpi_min_rtt = micros(f.srtt);
  info.tcpi_snd_cwnd = f.cwnd_bytes / mss;
  info.tcpi_snd_ssthresh = f.ssthresh_bytes >= 0x7fffffffu ? 0x7fffffffu : f.ssthresh_bytes / mss;
  info.tcpi_rcv_ssthresh = f.rcv_wnd_bytes;
  info.tcpi_rcv_space = f.rcv_wnd_bytes;
  info.tcpi_snd_wnd = f.snd_wnd_bytes;
  info.tcpi_total_retrans = static_cast<uint32_t>(std::min<uint64_t>(f.retransmitted_segments, UINT32_MAX));
  info.tcpi_segs_out = static_cast<uint32_t>(f.segments_sent);
  info.tcpi_segs_in = static_cast<uint32_t>(f.segments_received);
  info.tcpi_notsent_bytes = static_cast<uint32_t>(std::min<uint64_t>(stream.unsent_bytes(), UINT32_MAX));
  info.tcpi_bytes_acked = connection.snd_una() - connection.first_send_byte();
  info.tcpi_bytes_sent = connection.snd_nxt() - connection.first_send_byte();
  info.tcpi_bytes_received = connection.receive_end() - connection.first_receive_byte();
  return info;
}

}  // namespace tto::stack
