/* Load generator: keep-alive HTTP connections that send prepared requests. See loadgen.h.
 *
 * Requests come ready to send from a file, each as its length on a line and then its bytes, so the
 * caller decides what they are and nothing is composed while the clock runs. Answers must carry
 * Content-Length (or have no body).
 */
#define _GNU_SOURCE
#include "loadgen.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_LIMIT_BYTES 262144
#define NO_REQUEST SIZE_MAX

struct request {
    const char *bytes;
    size_t size;
    char *answer; /* "status<TAB>body" on one line, when the caller wants answers */
};

struct writer {
    struct link link;
    size_t current; /* index of the request on its way, or NO_REQUEST */
    size_t written;
    nanoseconds started;
    char *answer;
    size_t used;
};

static struct {
    char *file;
    struct request *requests;
    size_t count;
    size_t next;
    size_t finished;
    size_t succeeded;
    nanoseconds *took;
    struct writer *writers;
    size_t writer_count;
    nanoseconds began;
    nanoseconds interval; /* between two requests; 0: closed loop */
    struct sockaddr_in address;
    bool keep_answers;
    bool active;
    char failure[512];
} batch;

static void load_requests(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail(path);
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file), room = 1024;
    rewind(file);
    batch.file = malloc(size + 1);
    if (fread(batch.file, 1, size, file) != size)
        fail(path);
    fclose(file);
    batch.file[size] = '\0';
    batch.requests = malloc(room * sizeof *batch.requests);
    for (char *at = batch.file; at < batch.file + size;) {
        char *bytes;
        size_t length = strtoul(at, &bytes, 10);
        if (batch.count == room)
            batch.requests = realloc(batch.requests, (room *= 2) * sizeof *batch.requests);
        batch.requests[batch.count++] = (struct request){.bytes = bytes + 1, .size = length};
        at = bytes + 1 + length;
    }
}

static void open_writer(struct writer *writer)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&batch.address, sizeof batch.address) != 0)
        fail("HTTP connection");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    writer->link.fd = fd;
    loop_add(&writer->link, EPOLLIN);
}

static void write_request(struct writer *writer)
{
    const struct request *request = &batch.requests[writer->current];
    while (writer->written < request->size) {
        ssize_t sent = send(writer->link.fd, request->bytes + writer->written,
                            request->size - writer->written, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            loop_change(&writer->link, EPOLLIN | EPOLLOUT);
            return;
        }
        if (sent < 0)
            fail("HTTP send");
        writer->written += (size_t)sent;
    }
}

static bool is_due(nanoseconds now)
{
    return batch.next < batch.count && batch.began + batch.next * batch.interval <= now;
}

static void start_request(struct writer *writer, nanoseconds now)
{
    writer->current = batch.next++;
    writer->written = writer->used = 0;
    /* At a fixed rate a request that waits for a free connection is late, and that counts. */
    writer->started = batch.interval != 0 ? batch.began + writer->current * batch.interval : now;
    event_sent(writer->current, writer->started);
    write_request(writer);
}

/* Size of the complete answer in the buffer, or 0 while more must come. */
static size_t answer_size(struct writer *writer, int *status, size_t *head)
{
    writer->answer[writer->used] = '\0';
    char *end = strstr(writer->answer, "\r\n\r\n");
    if (end == NULL)
        return 0;
    *status = atoi(writer->answer + sizeof "HTTP/1.1");
    *head = (size_t)(end - writer->answer) + 4;
    size_t body = 0;
    for (char *line = writer->answer; line < end; line = strstr(line, "\r\n") + 2)
        if (strncasecmp(line, "content-length:", 15) == 0)
            body = strtoul(line + 15, NULL, 10);
    return writer->used >= *head + body ? *head + body : 0;
}

static void keep_answer(struct request *request, int status, char *body, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (body[i] == '\n' || body[i] == '\r')
            body[i] = ' ';
    if (asprintf(&request->answer, "%d\t%.*s\n", status, (int)size, body) < 0)
        fail("out of memory");
}

static void reopen(struct writer *writer)
{
    loop_remove(&writer->link);
    close(writer->link.fd);
    open_writer(writer);
}

static void on_writer_ready(struct link *link, uint32_t ready)
{
    struct writer *writer = (struct writer *)link;
    if ((ready & EPOLLOUT) != 0) {
        loop_change(link, EPOLLIN);
        write_request(writer);
        return;
    }
    size_t room = ANSWER_LIMIT_BYTES - writer->used;
    ssize_t got = recv(link->fd, writer->answer + writer->used, room, 0);
    if (got <= 0 && writer->current != NO_REQUEST)
        fail("the server closed an HTTP connection that waits for an answer");
    if (got <= 0) {
        reopen(writer);
        return;
    }
    writer->used += (size_t)got;
    int status = 0;
    size_t head = 0, size = answer_size(writer, &status, &head);
    if (size == 0 || writer->current == NO_REQUEST)
        return;
    nanoseconds now = now_ns();
    batch.took[batch.finished++] = now - writer->started;
    if (status >= 200 && status < 300) {
        batch.succeeded++;
        event_accepted(writer->current, now);
    } else if (batch.failure[0] == '\0') {
        snprintf(batch.failure, sizeof batch.failure, "%d %s", status, writer->answer + head);
    }
    if (batch.keep_answers)
        keep_answer(&batch.requests[writer->current], status, writer->answer + head, size - head);
    writer->current = NO_REQUEST;
    if (is_due(now))
        start_request(writer, now);
}

nanoseconds http_tick(nanoseconds now)
{
    if (!batch.active || batch.next == batch.count)
        return NEVER;
    for (size_t i = 0; i < batch.writer_count && is_due(now); i++)
        if (batch.writers[i].current == NO_REQUEST)
            start_request(&batch.writers[i], now);
    if (batch.next == batch.count || is_due(now)) /* nothing left, or every connection is busy */
        return NEVER;
    return batch.began + batch.next * batch.interval;
}

static bool all_answered(void)
{
    return batch.finished == batch.count;
}

static void write_answers(const char *path)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        fail(path);
    for (size_t i = 0; i < batch.count; i++) {
        fputs(batch.requests[i].answer != NULL ? batch.requests[i].answer : "0\t\n", file);
        free(batch.requests[i].answer);
    }
    fclose(file);
}

static void close_batch(void)
{
    for (size_t i = 0; i < batch.writer_count; i++) {
        loop_remove(&batch.writers[i].link);
        close(batch.writers[i].link.fd);
        free(batch.writers[i].answer);
    }
    free(batch.writers);
    free(batch.requests);
    free(batch.file);
    free(batch.took);
}

/* http port= file= [host= connections= rate= out= expect= timeout= pid= settle_ms=] */
void http_send(void)
{
    memset(&batch, 0, sizeof batch);
    load_requests(option("file", NULL));
    batch.address = address_option();
    batch.keep_answers = *option("out", "") != '\0';
    batch.took = malloc((batch.count + 1) * sizeof *batch.took);
    batch.writer_count = (size_t)number("connections", 32);
    batch.writers = calloc(batch.writer_count, sizeof *batch.writers);
    for (size_t i = 0; i < batch.writer_count; i++) {
        struct writer *writer = &batch.writers[i];
        writer->link.on_ready = on_writer_ready;
        writer->current = NO_REQUEST;
        writer->answer = malloc(ANSWER_LIMIT_BYTES + 1);
        open_writer(writer);
    }
    long rate = number("rate", 0);
    batch.interval = rate > 0 ? NS_PER_S / (nanoseconds)rate : 0;
    begin_run();
    events_begin(batch.count);
    batch.began = now_ns();
    batch.active = true;
    report_begin("http");
    end_run(all_answered);
    batch.active = false;
    report_number("requests", (double)batch.count);
    report_number("answered", (double)batch.finished);
    report_number("succeeded", (double)batch.succeeded);
    report_quantiles("answer_ms", batch.took, batch.finished);
    if (batch.failure[0] != '\0')
        report_text("first_failure", batch.failure, strlen(batch.failure));
    if (batch.keep_answers)
        write_answers(option("out", NULL));
    close_batch();
    report_end(); /* last: the caller reads the answers as soon as it sees this */
}
