// The same in Go: client SOCKET REQUEST COUNT
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

func main() {
	granted := 0
	count, _ := strconv.Atoi(os.Args[3])
	for at := 0; at < count; at++ {
		connection, err := net.Dial("unix", os.Args[1])
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Fprintf(connection, "%s\n", os.Args[2])
		answer, _ := bufio.NewReader(connection).ReadString('\n')
		if strings.Contains(answer, "\"success\"") {
			granted++
		} else {
			fmt.Println(answer)
		}
		connection.Close()
	}
	fmt.Println("granted", granted)
}
