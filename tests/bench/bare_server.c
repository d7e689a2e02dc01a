/* The yardstick: a C loop that calls send() once a message on every connection.
 *
 * It lets MQTT clients connect and subscribe (any packet 1 gets a CONNACK, any packet 8 a SUBACK)
 * and knows nothing else. What it costs is what the kernel costs, so a server that writes once a
 * message can come near it and one that joins messages can beat it.
 *
 * Prints its port. Then reads `events bytes` a line: sends that many packets with payloads of that
 * size to each connection, event after event.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 65536
#define TOPIC_BYTES 23
#define MAX_PAYLOAD_BYTES 16000

static int clients[MAX_CLIENTS];
static size_t client_count;

static void answer(int fd)
{
    static const uint8_t connack[] = {0x20, 2, 0, 0};
    uint8_t in[4096], suback[] = {0x90, 3, 0, 0, 0};
    ssize_t got = recv(fd, in, sizeof in, 0);
    if (got <= 0) {
        for (size_t i = 0; i < client_count; i++)
            if (clients[i] == fd)
                clients[i] = clients[--client_count];
        close(fd);
    } else if (in[0] == 0x10) {
        (void)!send(fd, connack, sizeof connack, MSG_NOSIGNAL);
    } else if (in[0] >> 4 == 8) {
        memcpy(suback + 2, in + 2, 2);
        clients[client_count++] = fd;
        (void)!send(fd, suback, sizeof suback, MSG_NOSIGNAL);
    }
}

static void send_all(const uint8_t *packet, size_t size)
{
    for (size_t i = 0; i < client_count; i++) {
        size_t sent = 0;
        while (sent < size) {
            ssize_t done = send(clients[i], packet + sent, size - sent, MSG_NOSIGNAL);
            if (done < 0 && errno != EINTR)
                exit(1);
            sent += done > 0 ? (size_t)done : 0;
        }
    }
}

static void run(unsigned long events, size_t payload_bytes)
{
    uint8_t packet[MAX_PAYLOAD_BYTES + 64];
    size_t body = 2 + TOPIC_BYTES + payload_bytes, at = 0;
    packet[at++] = 0x30;
    for (size_t rest = body; rest != 0; rest >>= 7)
        packet[at++] = (uint8_t)((rest & 127) | (rest > 127 ? 128 : 0));
    packet[at++] = 0;
    packet[at++] = TOPIC_BYTES;
    memset(packet + at, 't', TOPIC_BYTES + payload_bytes);
    for (unsigned long event = 0; event < events; event++)
        send_all(packet, at + TOPIC_BYTES + payload_bytes);
}

static int listen_anywhere(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 4096) != 0)
        exit(1);
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static int accept_client(int listener)
{
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int main(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int poll = epoll_create1(0), listener = listen_anywhere();
    struct epoll_event watch = {.events = EPOLLIN, .data.fd = listener}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &watch);
    watch.data.fd = STDIN_FILENO;
    epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &watch);
    for (;;) {
        int count = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            char line[64] = "";
            if (fd == listener) {
                watch.data.fd = accept_client(listener);
                epoll_ctl(poll, EPOLL_CTL_ADD, watch.data.fd, &watch);
            } else if (fd != STDIN_FILENO) {
                answer(fd);
            } else if (read(STDIN_FILENO, line, sizeof line - 1) > 0) {
                char *rest;
                unsigned long events = strtoul(line, &rest, 10);
                run(events, strtoul(rest, NULL, 10) % MAX_PAYLOAD_BYTES);
            } else {
                return 0;
            }
        }
    }
}
