// TCP_INFO of an accelerated connection. Apart from the rest: <linux/tcp.h> and <netinet/tcp.h> cannot be mixed.
#pragma once

#include <linux/tcp.h>

namespace tto::socket {
class StreamSocket;
}

namespace tto::stack {

/// Fields that our engine has no figure for are zero. Under the stack's lock.
tcp_info tcp_info_of(socket::StreamSocket& stream);

}  // namespace tto::stack
