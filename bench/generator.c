/* The load of bin/bench relay: WebSocket clients and the services behind the relays, both
 * in one thread with one epoll set, so that nothing but the relay between them costs much.
 *
 *     cc -O2 -o generator generator.c [-DWITH_TLS -lssl -lcrypto]
 *
 * It prints {"port": P}, the services' port, then obeys one line at a time on standard input
 * and answers each with one line of JSON. Numbers are decimal; PORT is on 127.0.0.1, TLS is
 * 0 or 1; "all" in an answer counts what was done since the clients were open (octets of a
 * stream, else messages), not only after WARM seconds.
 *
 *     head LENGTH                              the request head of every client follows
 *     echo PORT TLS SIZE N WARM SECONDS        N closed loops of SIZE octets
 *     stream PORT TLS SIZE N WARM SECONDS      N services send frames of SIZE octets
 *     handshake PORT TLS N WARM SECONDS        open and close, N at a time
 *     open PORT TLS N                          N more idle connections, until `close`
 *     stall PORT TLS SIZE N FRAMES             N clients ask for FRAMES frames and do not read
 *     drain SECONDS                            now they read, and compare every octet
 *     close                                    close all clients
 *
 * A service answers 101 to a correct request, echoes binary messages, answers a text
 * message "SIZE FRAMES" with so many frames (FRAMES 0: without end), and answers Close.
 * Clients mask with one fixed key and know the answer's octets, so they parse no frames.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { SERVICE, CLIENT };
enum { CONNECTING, SECURING, ASKING, OPEN, CLOSING };
enum work { NONE, ECHO, STREAM, HANDSHAKE, IDLE, STALL };

#define BUFFER (1 << 20)
#define OPENING_AT_ONCE 32
#define KEY "\x37\xfa\x21\x3d"

struct block { size_t size, length, frame; unsigned char *octets; struct block *next; };

struct link {
    int fd, side, state, dead, watching;
    unsigned char *kept; size_t kept_length;     /* received, not a whole head or frame yet */
    unsigned char *owed; size_t owed_length;     /* the kernel did not take it yet */
    struct block *block; uint64_t sent, limit;   /* a service's stream; limit 0: without end */
    uint64_t received; int64_t asked;            /* a client's octets; when it asked */
    int stalled;
    struct link *next, *grave;
#ifdef WITH_TLS
    SSL *ssl;
#endif
};

static int pool, listener;
static unsigned char buffer[BUFFER];
static char *head; static size_t head_length;
static struct link *clients, *graves; static struct block *blocks;
static enum work work; static int port, secure, opening, opened, reading, wanted;
static unsigned char question[BUFFER]; static size_t question_length, answer_length;
static size_t size; static uint64_t frames;
static uint64_t messages, octets, warmed, wrong; static char trouble[256];
static uint32_t buckets[64 * 64];
#ifdef WITH_TLS
static SSL_CTX *tls;
#endif

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void fail(const char *what) {
    if (!*trouble) snprintf(trouble, sizeof trouble, "%s", what);
    for (char *c = trouble; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < 32) *c = ' ';
}

/* -- a histogram of nanoseconds, 64 steps for each power of two ------------------------- */

static void note(int64_t taken) {
    int top = 63 - __builtin_clzll((uint64_t)taken | 64), index = (top - 6) * 64;
    buckets[index + ((taken >> (top - 6)) & 63) + (top > 6 ? 64 : 0)]++;
}

static double quantile(double share) {  /* in microseconds */
    uint64_t total = 0, seen = 0;
    for (int i = 0; i < 64 * 64; i++) total += buckets[i];
    for (int i = 0; i < 64 * 64; i++) {
        seen += buckets[i];
        if (total && seen >= share * total) {
            int power = i / 64;
            return (power ? (uint64_t)(64 + i % 64) << (power - 1) : (uint64_t)i) / 1e3;
        }
    }
    return 0;
}

/* -- SHA-1 and base64, for Sec-WebSocket-Accept (RFC 6455, 4.2.2; FIPS 180-4) ------------ */

#define ROL(x, n) ((x) << (n) | (x) >> (32 - (n)))

static void sha1(const unsigned char *text, size_t length, unsigned char *digest) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}, w[80];
    unsigned char padded[256] = {0};
    size_t whole = (length + 9 + 63) / 64 * 64;
    memcpy(padded, text, length);
    padded[length] = 0x80;
    for (int i = 0; i < 8; i++) padded[whole - 1 - i] = (uint64_t)length * 8 >> 8 * i;
    for (size_t at = 0; at < whole; at += 64) {
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = padded + at + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = ROL(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (b & c) | (~b & d) : i >= 40 && i < 60
                ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
            static const uint32_t k[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
            uint32_t next = ROL(a, 5) + f + e + k[i / 20] + w[i];
            e = d; d = c; c = ROL(b, 30); b = a; a = next;
        }
        h[0] += a; h[1] += b; h[2] += c; h[3] += d; h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

static void accept_of(const char *key, size_t length, char *answer) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char text[128], d[21] = {0};
    if (length > 64) length = 64;
    memcpy(text, key, length);
    memcpy(text + length, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1(text, length + 36, d);
    for (int i = 0; i < 7; i++) {
        uint32_t three = d[3 * i] << 16 | d[3 * i + 1] << 8 | d[3 * i + 2];
        for (int j = 0; j < 4; j++) answer[4 * i + j] = digits[three >> (18 - 6 * j) & 63];
    }
    strcpy(answer + 27, "=");
}

/* -- links ------------------------------------------------------------------------------- */

static void watch(struct link *link, int events) {
    struct epoll_event event = {.events = events, .data.ptr = link};
    if (link->watching == events) return;
    epoll_ctl(pool, link->watching < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, link->fd, &event);
    link->watching = events;
}

static struct link *add(int fd, int side) {
    struct link *link = calloc(1, sizeof *link);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link->fd = fd; link->side = side; link->watching = -1;
    return link;
}

static void end(struct link *link) {
    if (link->dead) return;
    link->dead = 1;
    if (link->side == CLIENT) {
        if (link->state < OPEN) opening--;
        for (struct link **at = &clients; *at; at = &(*at)->next)
            if (*at == link) { *at = link->next; break; }
    }
#ifdef WITH_TLS
    if (link->ssl) SSL_free(link->ssl);
#endif
    close(link->fd);
    link->grave = graves;
    graves = link;
}

static void bury(void) {
    while (graves) {
        struct link *link = graves;
        graves = link->grave;
        free(link->kept); free(link->owed); free(link);
    }
}

static ssize_t take(struct link *link, void *to, size_t room, int flags) {
#ifdef WITH_TLS
    if (link->ssl && !(flags & MSG_TRUNC)) {
        ERR_clear_error();
        int n = SSL_read(link->ssl, to, room);
        if (n > 0) return n;
        int why = SSL_get_error(link->ssl, n);
        errno = EAGAIN;
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? -1 : 0;
    }
#endif
    ssize_t n = recv(link->fd, to, room, flags);
    return n < 0 && errno != EAGAIN ? 0 : n;
}

static ssize_t give(struct link *link, const void *from, size_t length) {
#ifdef WITH_TLS
    if (link->ssl) {
        ERR_clear_error();
        int n = SSL_write(link->ssl, from, length);
        return n > 0 ? n : 0;
    }
#endif
    ssize_t n = send(link->fd, from, length, MSG_NOSIGNAL);
    return n < 0 ? 0 : n;
}

static void put(struct link *link, const void *from, size_t length) {
    size_t done = link->owed_length ? 0 : (size_t)give(link, from, length);
    if (done == length) return;
    link->owed = realloc(link->owed, link->owed_length + length - done);
    memcpy(link->owed + link->owed_length, (const char *)from + done, length - done);
    link->owed_length += length - done;
    watch(link, EPOLLIN | EPOLLOUT);
}

static void pay(struct link *link) {
    size_t done = give(link, link->owed, link->owed_length);
    link->owed_length -= done;
    memmove(link->owed, link->owed + done, link->owed_length);
    if (!link->owed_length && !link->block) watch(link, EPOLLIN);
}

static size_t frame_head(unsigned char *to, int opcode, size_t length, int masked) {
    size_t at = 2;
    to[0] = 0x80 | opcode;
    to[1] = (masked ? 0x80 : 0) | (length < 126 ? length : length < 65536 ? 126 : 127);
    for (int i = length < 126 ? 0 : length < 65536 ? 2 : 8; i > 0; i--)
        to[at++] = (uint64_t)length >> 8 * (i - 1);
    return at;
}

/* Whole frames of a size, about 256 KiB of them, to be sent again and again. */
static struct block *block_of(size_t size) {
    for (struct block *b = blocks; b; b = b->next) if (b->size == size) return b;
    struct block *b = malloc(sizeof *b);
    unsigned char start[10];
    size_t begin = frame_head(start, 2, size, 0), count = 1 + 262144 / (size + begin);
    *b = (struct block){size, count * (size + begin), size + begin, NULL, blocks};
    b->octets = malloc(b->length);
    for (size_t i = 0; i < b->length; i++) b->octets[i] = (i * 2654435761u) >> 11;
    for (size_t i = 0; i < count; i++) memcpy(b->octets + i * b->frame, start, begin);
    return blocks = b;
}

/* -- services ---------------------------------------------------------------------------- */

static size_t welcome(struct link *link, unsigned char *text, size_t length) {
    unsigned char *stop = memmem(text, length, "\r\n\r\n", 4);
    char answer[256], accept[32];
    if (!stop) return 0;
    *stop = 0;
    char *key = strcasestr((char *)text, "\r\nsec-websocket-key:");
    if (!key) {  /* somebody asks how it is */
        put(link, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 57);
        end(link);
        return stop + 4 - text;
    }
    key += 20;
    while (*key == ' ') key++;
    accept_of(key, strcspn(key, " \r"), accept);
    put(link, answer, snprintf(answer, sizeof answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept));
    link->state = OPEN;
    return stop + 4 - text;
}

static size_t serve(struct link *link, unsigned char *text, size_t length) {
    if (link->state != OPEN) return welcome(link, text, length);
    if (length < 2) return 0;
    size_t count = text[1] & 127, extra = count < 126 ? 0 : count == 126 ? 2 : 8;
    size_t begin = 2 + extra + 4;
    int opcode = text[0] & 15;
    if (length < begin) return 0;
    if (extra) count = 0;
    for (size_t i = 0; i < extra; i++) count = count << 8 | text[2 + i];
    if (length - begin < count) return 0;
    unsigned char *key = text + begin - 4, *body = text + begin;
    for (size_t i = 0; i < count; i++) body[i] ^= key[i & 3];
    if (opcode == 1) {
        size_t each = 0; uint64_t many = 0;
        char line[64] = {0};
        memcpy(line, body, count < 63 ? count : 63);
        if (sscanf(line, "%zu %lu", &each, &many) == 2) {
            link->block = block_of(each);
            link->limit = many * link->block->frame;
            watch(link, EPOLLIN | EPOLLOUT);
        }
    } else if (opcode == 2 || opcode == 8 || opcode == 9) {
        static unsigned char answer[BUFFER + 16];
        size_t at = frame_head(answer, opcode == 9 ? 10 : opcode, count, 0);
        if (count > BUFFER) { fail("a message is too long for the echo"); end(link); return 0; }
        memcpy(answer + at, body, count);
        put(link, answer, at + count);
        if (opcode == 8) end(link);
    }
    return begin + count;
}

static void blast(struct link *link) {
    size_t at = link->sent % link->block->length, length = link->block->length - at;
    if (link->limit && link->limit - link->sent < length) length = link->limit - link->sent;
    link->sent += give(link, link->block->octets + at, length);
    if (link->limit && link->sent == link->limit) { link->block = NULL; watch(link, EPOLLIN); }
}

static void feed(struct link *link) {
    ssize_t n = take(link, buffer, sizeof buffer, 0);
    if (n < 0) return;
    if (n == 0) { end(link); return; }
    unsigned char *text = buffer;
    size_t length = n, used;
    if (link->kept_length) {
        link->kept = realloc(link->kept, link->kept_length + n);
        memcpy(link->kept + link->kept_length, buffer, n);
        length = link->kept_length + n;
        text = link->kept;
    }
    while (length && !link->dead && (used = serve(link, text, length)))
        text += used, length -= used;
    if (link->dead || !length) { link->kept_length = 0; return; }
    if (text >= buffer && text < buffer + sizeof buffer) {
        link->kept = realloc(link->kept, length);
        memcpy(link->kept, text, length);
    } else memmove(link->kept, text, length);
    link->kept_length = length;
}

/* -- clients ----------------------------------------------------------------------------- */

static void dial(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), little = 65536;
    if (fd < 0) { fail(strerror(errno)); return; }
    if (work == STALL) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    struct link *link = add(fd, CLIENT);
    link->next = clients; clients = link; opening++;
    link->asked = now();
    if (connect(fd, (void *)&to, sizeof to) && errno != EINPROGRESS) {
        fail(strerror(errno));
        end(link);
        return;
    }
    watch(link, EPOLLIN | EPOLLOUT);
}

static void ask(struct link *link) {
    link->received = 0;
    link->asked = now();
    put(link, question, question_length);
}

static void begin(struct link *link) {
    opening--; opened++;
    if (work == HANDSHAKE) {
        messages++;
        note(now() - link->asked);
        link->state = CLOSING;
    }
    if (work == STALL) link->stalled = 1, watch(link, 0);
    if (work != IDLE) ask(link);
}

/* Go on with the opening; return 0 when there is nothing to read yet. */
static int open_on(struct link *link, int events) {
    if (link->state == CONNECTING) {
        int error = 0; socklen_t length = sizeof error;
        getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) { fail(strerror(error)); end(link); return 0; }
        if (!(events & EPOLLOUT)) return 0;
        link->state = ASKING;
#ifdef WITH_TLS
        if (secure) {
            link->ssl = SSL_new(tls);
            SSL_set_fd(link->ssl, link->fd);
            SSL_set_tlsext_host_name(link->ssl, "localhost");
            SSL_set_connect_state(link->ssl);
            link->state = SECURING;
        }
#endif
        watch(link, EPOLLIN);
        if (link->state == ASKING) put(link, head, head_length);
    }
#ifdef WITH_TLS
    if (link->state == SECURING) {
        ERR_clear_error();
        int done = SSL_do_handshake(link->ssl);
        if (done == 1) { link->state = ASKING; put(link, head, head_length); return 0; }
        int why = SSL_get_error(link->ssl, done);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
            fail("the TLS handshake failed");
            end(link);
        }
        return 0;
    }
#endif
    return 1;
}

static void receive(struct link *link) {
    /* What a stream brings is counted, not copied (tcp(7), MSG_TRUNC), and not decrypted: that
     * the records' own octets are counted too changes less than noise does. */
    int flags = work == STREAM && link->state == OPEN ? MSG_TRUNC : 0;
    ssize_t n = take(link, buffer, sizeof buffer, flags);
    unsigned char *text = buffer;
    if (n < 0) return;
    if (n == 0) {
        if (link->state == ASKING) fail("the connection was closed before a 101");
        else if (link->state == OPEN) fail("the connection was lost");
        end(link);
        if (work == HANDSHAKE && reading) dial();
        return;
    }
    if (link->state == ASKING) {
        unsigned char *stop = memmem(buffer, n, "\r\n\r\n", 4);
        if (n < 12 || memcmp(buffer, "HTTP/1.1 101", 12) || !stop) {
            buffer[n < 100 ? n : 100] = 0;
            buffer[strcspn((char *)buffer, "\r\n")] = 0;
            fail((char *)buffer);
            end(link);
            return;
        }
        link->state = OPEN;
        n -= stop + 4 - buffer;
        text = stop + 4;
        begin(link);
        if (n <= 0) return;
    }
    link->received += n;
    if (work == ECHO) {
        if (link->received == (uint64_t)n && text[0] != 0x82) wrong++;
        if (link->received > answer_length) wrong++;
        if (link->received >= answer_length) {
            messages++;
            note(now() - link->asked);
            ask(link);
        }
    } else if (work == STREAM) {
        octets += n;
    } else if (work == STALL) {
        struct block *b = block_of(size);
        uint64_t at = link->received - n;
        for (ssize_t done = 0; done < n;) {
            size_t place = (at + done) % b->length, part = b->length - place;
            if (part > (size_t)(n - done)) part = n - done;
            if (memcmp(text + done, b->octets + place, part)) wrong++;
            done += part;
        }
        octets += n;
    }
}

/* -- the loop ---------------------------------------------------------------------------- */

static void turn(int milliseconds) {
    static struct epoll_event events[256];
    int n = epoll_wait(pool, events, 256, milliseconds);
    for (int i = 0; i < n; i++) {
        struct link *link = events[i].data.ptr;
        int what = events[i].events;
        if (!link) {
            int fd;
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
                watch(add(fd, SERVICE), EPOLLIN);
            continue;
        }
        if (link->dead) continue;
        if (link->side == CLIENT && link->state < ASKING && !open_on(link, what)) continue;
        if (what & EPOLLOUT) {
            if (link->owed_length) pay(link);
            else if (link->block) blast(link);
            else watch(link, EPOLLIN);
        }
        if (link->dead || !(what & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
        if (link->side == SERVICE) { feed(link); continue; }
        receive(link);
#ifdef WITH_TLS
        for (int i = 0; i < 64 && !link->dead && link->ssl && SSL_pending(link->ssl); i++)
            receive(link);
#endif
    }
    bury();
}

/* Open `count` clients, some at a time; false after any trouble, or when 30 s and then 20 ms
 * for each were not enough. */
static int open_all(int count) {
    int64_t deadline = now() + 30000000000LL + count * 20000000LL;
    opened = 0; wanted = count;
    while (opened < wanted && !*trouble && now() < deadline) {
        while (opening < OPENING_AT_ONCE && opened + opening < wanted && !*trouble) dial();
        turn(100);
    }
    if (opened < wanted) fail("not all connections were opened in time");
    return !*trouble;
}

static void close_all(void) {
    int64_t deadline = now() + 200000000LL;
    reading = 0; work = NONE;
    while (clients) end(clients);
    opening = 0;
    bury();
    while (now() < deadline) turn(20);  /* let relays and services see it */
}

static void measure(double warm, double seconds) {
    int64_t begin = now() + warm * 1e9, stop;
    messages = octets = 0;
    while (now() < begin && !*trouble) turn(20);
    warmed = work == STREAM ? octets : messages;
    messages = octets = 0;
    memset(buckets, 0, sizeof buckets);
    begin = now(); stop = begin + seconds * 1e9;
    while (now() < stop && !*trouble) turn(20);
    if (*trouble) return;
    double taken = (now() - begin) / 1e9;
    warmed += work == STREAM ? octets : messages;
    if (work == STREAM) messages = octets / block_of(size)->frame;
    printf("{\"seconds\": %.6f, \"messages\": %lu, \"octets\": %lu, \"all\": %lu, \"wrong\": %lu, "
           "\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f}\n",
           taken, messages, octets, warmed, wrong, quantile(.5), quantile(.99), quantile(.999));
}

static void set_question(int opcode, const char *text, size_t length) {
    size_t at = frame_head(question, opcode, length, 1);
    memcpy(question + at, KEY, 4);
    for (size_t i = 0; i < length; i++)
        question[at + 4 + i] = (text ? text[i] : (char)('a' + i % 26)) ^ KEY[i & 3];
    question_length = at + 4 + length;
    answer_length = question_length - 4;
}

static void obey(const char *line) {
    int count = 0, length; double warm = 0, seconds = 0; char text[64];
    *trouble = 0; wrong = 0; reading = 1;
    if (sscanf(line, "head %d", &length) == 1) {
        head = realloc(head, length);
        head_length = fread(head, 1, length, stdin);
        printf("{}\n");
    } else if (sscanf(line, "echo %d %d %zu %d %lf %lf",
               &port, &secure, &size, &count, &warm, &seconds) == 6) {
        if (size > BUFFER - 64) size = BUFFER - 64;
        work = ECHO;
        set_question(2, NULL, size);
        if (open_all(count)) measure(warm, seconds);
        close_all();
    } else if (sscanf(line, "stream %d %d %zu %d %lf %lf",
                      &port, &secure, &size, &count, &warm, &seconds) == 6) {
        work = STREAM;
        set_question(1, text, snprintf(text, sizeof text, "%zu 0", size));
        if (open_all(count)) measure(warm, seconds);
        close_all();
    } else if (sscanf(line, "handshake %d %d %d %lf %lf",
                      &port, &secure, &count, &warm, &seconds) == 5) {
        work = HANDSHAKE;
        set_question(8, "\x03\xe8", 2);
        for (int i = 0; i < count; i++) dial();
        measure(warm, seconds);
        close_all();
    } else if (sscanf(line, "open %d %d %d", &port, &secure, &count) == 3) {
        work = IDLE;
        if (open_all(count)) printf("{\"open\": %d}\n", opened);
    } else if (sscanf(line, "stall %d %d %zu %d %lu",
                      &port, &secure, &size, &count, &frames) == 5) {
        work = STALL; reading = 0; octets = 0;
        set_question(1, text, snprintf(text, sizeof text, "%zu %lu", size, frames));
        if (open_all(count)) {
            int64_t stop = now() + 2000000000LL;
            while (now() < stop && !*trouble) turn(20);
            if (!*trouble) printf("{\"open\": %d}\n", opened);
        }
    } else if (sscanf(line, "drain %lf", &seconds) == 1) {
        int64_t begin = now(), stop = begin + seconds * 1e9;
        uint64_t all = 0;
        for (struct link *c = clients; c; c = c->next) {
            if (!c->stalled) continue;
            watch(c, EPOLLIN);
            all += frames * block_of(size)->frame;
        }
        while (octets < all && now() < stop && !*trouble) turn(20);
        if (!*trouble)
            printf("{\"seconds\": %.6f, \"octets\": %lu, \"expected\": %lu, \"wrong\": %lu}\n",
            (now() - begin) / 1e9, octets, all, wrong);
    } else if (!strncmp(line, "close", 5)) {
        close_all();
        printf("{}\n");
    } else fail("no such command");
    if (*trouble) { printf("{\"error\": \"%s\"}\n", trouble); close_all(); }
    fflush(stdout);
}

int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof at;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    char line[512];
    signal(SIGPIPE, SIG_IGN);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    pool = epoll_create1(0);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096))
        return perror("listen"), 1;
    getsockname(listener, (void *)&at, &length);
    epoll_ctl(pool, EPOLL_CTL_ADD, listener, &event);
#ifdef WITH_TLS
    tls = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    printf("{\"port\": %d, \"tls\": true}\n", ntohs(at.sin_port));
#else
    printf("{\"port\": %d, \"tls\": false}\n", ntohs(at.sin_port));
#endif
    fflush(stdout);
    /* Between two commands the services still serve: standard input is polled, not waited for. */
    setvbuf(stdin, NULL, _IONBF, 0);
    for (;;) {
        fd_set ready; struct timeval soon = {0, 0};
        FD_ZERO(&ready); FD_SET(0, &ready);
        if (select(1, &ready, NULL, NULL, &soon) <= 0) { turn(20); continue; }
        if (!fgets(line, sizeof line, stdin)) return 0;
        obey(line);
    }
}
