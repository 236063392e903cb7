/* Passes every packet of a TUN device back into it, but for some that are lost.
   relay DEVICE FILE: FILE has the lost packets of a thousand, and may change. */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int lost_of_thousand(const char *path)
{
    char text[16] = {0};
    int file = open(path, O_RDONLY);
    if (file < 0)
        return 0;
    if (read(file, text, sizeof text - 1) < 0)
        text[0] = 0;
    close(file);
    return atoi(text);
}

int main(int count, char **words)
{
    static char packet[65536];
    struct ifreq request;
    int tun = open("/dev/net/tun", O_RDWR);
    if (count != 3 || tun < 0) {
        perror("relay: the TUN device");
        return 2;
    }
    memset(&request, 0, sizeof request);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(request.ifr_name, words[1], IFNAMSIZ - 1);
    if (ioctl(tun, TUNSETIFF, &request) < 0) {
        perror("relay: TUNSETIFF");
        return 2;
    }
    puts("ready");
    fflush(stdout);
    /* The same packets are lost every time. */
    srand(1);
    int lost = 0;
    for (unsigned passed = 0;; passed++) {
        ssize_t length = read(tun, packet, sizeof packet);
        if (length < 0)
            return 1;
        if (passed % 64 == 0)
            lost = lost_of_thousand(words[2]);
        if (rand() % 1000 >= lost && write(tun, packet, (size_t)length) < 0)
            continue; /* The host that it is for is cut off. */
    }
}
